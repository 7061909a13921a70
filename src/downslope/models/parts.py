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
    "prelu": nn.PReLU,
    "relu6": nn.ReLU6,
    "elu": nn.ELU,
    "celu": nn.CELU,
    "selu": nn.SELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "mish": nn.Mish,
    "hardswish": nn.Hardswish,
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "softsign": nn.Softsign,
    "hardtanh": nn.Hardtanh,
    "hardsigmoid": nn.Hardsigmoid,
    "identity": nn.Identity,
}
"""Name to module; a module of its own for each place, so that it can be replaced by its qualified name."""

ALIASES = {
    "swish": "silu",
    "lrelu": "leaky_relu",
    "relu_6": "relu6",
    "leakyrelu": "leaky_relu",
    "logistic": "sigmoid",
    "hard_swish": "hardswish",
    "hard_tanh": "hardtanh",
    "hard_sigmoid": "hardsigmoid",
    "linear": "identity",
    "none": "identity",
}


def activation_name(name: object) -> str:
    """The table's own spelling of an activation.

    Raises:
        ModelError: no such name; the nearest is told.
    """
    if not isinstance(name, str):
        raise ModelError(f"activation={name!r}: must be a name, one of {', '.join(ACTIVATIONS)}")
    spelt = name.strip().lower().replace("-", "_").replace(" ", "_")
    spelt = ALIASES.get(spelt, spelt)
    if spelt not in ACTIVATIONS:
        raise ModelError(f"activation {name!r} is not known{did_you_mean(spelt, ACTIVATIONS)}")
    return spelt


def activation_of(name: str) -> nn.Module:
    """A new activation module.

    Raises:
        ModelError: no such name; the nearest is told.
    """
    return ACTIVATIONS[activation_name(name)]()


def image(size: int | tuple[int, int], least: int, why: str) -> tuple[int, int]:
    """Height and width of images, known to be large enough.

    Raises:
        ModelError: a side that is no whole number, or below `least` pixels.
    """
    sides = size if isinstance(size, tuple) else (size, size)
    if len(sides) != 2:
        raise ModelError(f"size={size!r}: must be a number of pixels, or (height, width)")
    height, across = sides
    sizes(height=height, across=across)
    if min(height, across) < least:
        raise ModelError(f"size={size!r}: {why}, which needs at least {least} pixels a side")
    return height, across


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


def norm2d(norm: str | None, channels: int) -> list[nn.Module]:
    """The norm layer of that name behind a convolution, or nothing for None.

    Raises:
        ModelError: no such norm.
    """
    return norm_of(
        norm, {"batch": lambda: nn.BatchNorm2d(channels), "layer": lambda: nn.GroupNorm(1, channels)}
    )
