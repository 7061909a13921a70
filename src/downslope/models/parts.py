"""What the factories share: activations and norms by name, and the check of sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import nn

from downslope.core.errors import ModelError
from downslope.core.names import did_you_mean

Norm = Literal["batch", "layer"]

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "softplus": nn.Softplus,
    "identity": nn.Identity,
}
"""Name to module; a module of its own for each place, so that it can be replaced by its qualified name."""


def activation_of(name: str) -> nn.Module:
    """A new activation module.

    Raises:
        ModelError: no such name; the nearest is told.
    """
    spelt = name.strip().lower().replace("-", "_")
    if spelt not in ACTIVATIONS:
        raise ModelError(f"activation {name!r} is not known{did_you_mean(spelt, ACTIVATIONS)}")
    return ACTIVATIONS[spelt]()


def sizes(**given: object) -> None:
    """Refuse a size that is no positive whole number, naming it.

    Raises:
        ModelError: such a size.
    """
    for name, value in given.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ModelError(f"{name}={value!r}: must be a whole number of at least 1")


def dropout_of(share: float) -> list[nn.Module]:
    """A dropout layer, or nothing for a share of 0.

    Raises:
        ModelError: a share outside [0, 1).
    """
    if not 0 <= share < 1:
        raise ModelError(f"dropout={share}: must lie in [0, 1), it is the share of units that are dropped")
    return [nn.Dropout(share)] if share else []


def norm_of(norm: str | None, known: dict[str, Callable[[], nn.Module]]) -> list[nn.Module]:
    """The norm layer of that name, or nothing for None.

    Raises:
        ModelError: no such norm for this model.
    """
    if norm is None:
        return []
    if norm not in known:
        raise ModelError(f"norm {norm!r} is not known; known: None, {', '.join(map(repr, known))}")
    return [known[norm]()]
