"""Modules of a model by qualified name, and how people are told of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from torch import nn
from torch.nn import Parameter


def named_modules(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Every module once, with its qualified name; the model itself is ``""``."""
    return [*cast("Iterator[tuple[str, nn.Module]]", model.named_modules())]


def own_parameters(module: nn.Module) -> list[Parameter]:
    """The parameters that `module` holds itself, not those of its children."""
    return list(module.parameters(recurse=False))


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
