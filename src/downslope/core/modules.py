"""Modules of a model by qualified name, and how people are told of them."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any, cast

from torch import Tensor, nn
from torch.nn import Parameter
from torch.nn.utils.parametrize import is_parametrized


def named_modules(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Every module once, with its qualified name; the model itself is ``""``."""
    return [*cast("Iterator[tuple[str, nn.Module]]", model.named_modules())]


def own_parameters(module: nn.Module) -> list[Parameter]:
    """The parameters that `module` holds itself, not those of its children."""
    return list(module.parameters(recurse=False))


def altered(module: nn.Module) -> str | None:
    """What makes a module give something else than its class does, in words; None where nothing does.

    A hook may replace what goes in and what comes out, a parametrization what its weights are: the class
    tells neither. `torch.nn.utils.weight_norm`, `spectral_norm` and `prune` are hooks too.

    Args:
        module: Any; its children count by themselves.
    """
    own = vars(module)
    if own.get("_forward_pre_hooks") or own.get("_forward_hooks"):
        return "a forward hook"
    if is_parametrized(module):
        return "a parametrization of its weights"
    return "a forward of its own" if "forward" in own else None


def copied(model: nn.Module) -> nn.Module:
    """A deep copy; of a module too that holds what it computed from its weights, which torch cannot copy.

    `torch.nn.utils.weight_norm`, `spectral_norm` and `prune` set such a tensor at every forward, so that it
    may be copied without its graph.

    Args:
        model: Left as it is.
    """
    held = [
        (module, name, value)
        for module in model.modules()
        for name, value in vars(module).items()
        if isinstance(value, Tensor) and not value.is_leaf
    ]
    try:
        for module, name, value in held:
            vars(module)[name] = value.detach()
        return copy.deepcopy(model)
    finally:
        for module, name, value in held:
            vars(module)[name] = value


_SIZES = (
    ("in_features", "out_features"),
    ("in_channels", "out_channels"),
    ("input_size", "hidden_size"),
    ("num_embeddings", "embedding_dim"),
)
_KINDS = {
    "relu": "ReLU", "relu6": "ReLU6", "leaky_relu": "LeakyReLU", "elu": "ELU", "selu": "SELU", "gelu": "GELU",
    "silu": "SiLU", "tanh": "Tanh", "sigmoid": "Sigmoid", "softmax": "Softmax", "log_softmax": "LogSoftmax",
    "softplus": "Softplus", "hardtanh": "Hardtanh", "logsigmoid": "LogSigmoid",
}  # fmt: skip


def size(module: nn.Module) -> str:
    """What a module takes and gives: "64x10"; "" where its kind has no such pair.

    Example:
        >>> size(nn.Linear(64, 10))
        '64x10'
    """
    for names in _SIZES:
        given = [getattr(module, name, None) for name in names]
        if all(isinstance(each, int) for each in given):
            return "x".join(str(each) for each in given)
    return ""


def called(facts: Mapping[str, Any], name: str) -> str:
    """A module as people are told of it: its qualified name with its kind, such as "3 (Linear 64x10)".

    Args:
        facts: What a run recorded, with "modules", "activations" and "output".
        name: Qualified name; ``"conv2+relu"`` is the function that followed module ``conv2``.
    """
    before, plus, function = name.partition("+")
    if plus:
        return f"{_KINDS.get(function, function)} after {called(facts, before)}"
    module, activation = _row(_row(facts, "modules"), name), _row(_row(facts, "activations"), name)
    output = _row(facts, "output")
    kind = str(module.get("type") or activation.get("kind") or "")
    if not kind and name and output.get("module") == name:
        kind = str(output.get("activation") or "")
    kind = f"{_KINDS.get(kind, kind)} {module.get('size', '')}".strip()
    return f"{name} ({kind})" if kind else name


def _row(facts: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", facts.get(key) or {})
