"""The initialisation that fits the activation which follows."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from downslope.init.he import he
from downslope.init.lecun import lecun
from downslope.init.xavier import xavier

RECTIFIERS = (
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.PReLU,
    nn.RReLU,
    nn.ELU,
    nn.CELU,
    nn.GELU,
    nn.SiLU,
    nn.Mish,
    nn.Softplus,
    nn.Hardswish,
    nn.Threshold,
)
SATURATING = (
    nn.Tanh,
    nn.Sigmoid,
    nn.Softsign,
    nn.Hardtanh,
    nn.Hardsigmoid,
    nn.LogSigmoid,
    nn.Softmax,
    nn.LogSoftmax,
    nn.Tanhshrink,
)
ACTIVATIONS = (*RECTIFIERS, *SATURATING, nn.SELU)


def auto(
    weight: Tensor,
    generator: torch.Generator | None = None,
    *,
    follows: type[nn.Module] | None = None,
    leak: float = 0.0,
) -> None:
    """`he` before ReLU and its relatives, `lecun` before SELU, `xavier` before anything else, in place.

    Args:
        weight: shape (out, in, ...).
        generator: of the draws, on the CPU; by default torch's own.
        follows: class of the activation that reads this layer; None where there is none, or it is not known.
        leak: its slope below zero.

    Raises:
        ModelError: fewer than two axes.
    """
    if follows is not None and issubclass(follows, RECTIFIERS):
        he(weight, generator, slope=leak)
    elif follows is not None and issubclass(follows, nn.SELU):
        lecun(weight, generator)
    else:
        xavier(weight, generator)


def followers(model: nn.Module) -> dict[nn.Module, type[nn.Module]]:
    """The activation behind each layer with a weight, as far as the order of the modules tells it.

    Within a Sequential the order is the forward pass. Elsewhere modules lie in the order of their
    definition: a layer with the next layer right behind it is then taken to use the one kind of activation
    that the model has, if it has one kind only. The last layer has none.

    Args:
        model: any module.

    Returns:
        Layer to class of activation; layers without one are missing.
    """
    chained = {
        (a, b)
        for parent in model.modules()
        if isinstance(parent, nn.Sequential)
        for a, b in zip(list(parent), list(parent)[1:], strict=False)
    }
    leaves = [module for module in model.modules() if not any(True for _ in module.children())]
    kinds = {type(module) for module in leaves if isinstance(module, ACTIVATIONS)}
    only = next(iter(kinds)) if len(kinds) == 1 else None
    last = next((leaf for leaf in reversed(leaves) if has_weight(leaf)), None)
    found: dict[nn.Module, type[nn.Module]] = {}
    for i, leaf in enumerate(leaves):
        if not has_weight(leaf):
            continue
        kind = _next_activation(leaves[i + 1 :])
        straight = i + 1 < len(leaves) and (leaf, leaves[i + 1]) in chained
        if kind is None and not straight:
            kind = only
        if kind is not None and (straight or leaf is not last):
            found[leaf] = kind
    return found


def has_weight(module: nn.Module) -> bool:
    """Whether a module maps inputs to outputs by a weight of two axes or more."""
    weight = getattr(module, "weight", None)
    return isinstance(weight, Tensor) and weight.ndim >= 2 and not isinstance(module, nn.Embedding)


def _next_activation(leaves: list[nn.Module]) -> type[nn.Module] | None:
    """The first activation before the next weight; norms, dropout and pooling lie between them."""
    for leaf in leaves:
        if isinstance(leaf, ACTIVATIONS):
            return type(leaf)
        if has_weight(leaf):
            return None
    return None
