"""What the activations of the catalogue do to a standard normal input: values, slopes, saturation, mean."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from downslope.core.errors import ModelError
from downslope.models.cost import costs
from downslope.models.parts import ACTIVATIONS, activation_name, activation_of

FAR = 1e8
"""Where a value or slope stands for its limit."""

_EDGE = 40.0
_GRID = torch.linspace(-_EDGE, _EDGE, 80_001, dtype=torch.float64)


@dataclass(frozen=True)
class Activation:
    """One activation, phi, for inputs z; Z is a standard normal input."""

    name: str
    lowest: float
    """Infimum of phi."""
    highest: float
    """Supremum of phi."""
    flattest: float
    """Infimum of the slope phi'; negative where phi falls."""
    steepest: float
    """Supremum of the slope phi'."""
    saturated: tuple[tuple[float, float], ...]
    """Intervals in which ``|phi'(z)| < share``: less than that share of a gradient gets through."""
    lost: float
    """``P(|phi'(Z)| < share)``: how many of the inputs lie there."""
    mean: float
    """``E[phi(Z)]``; zero keeps the next layer's inputs centred."""
    power: float
    """``E[phi(Z)^2]``; a weight variance of ``1 / (n_in power)`` keeps the size of the signal."""
    slope_power: float
    """``E[phi'(Z)^2]``, the factor by which the square of a gradient goes back through phi."""
    cost: float | None = None
    """Time of a forward and backward pass here, in multiples of ReLU's; None where it was not measured."""

    @property
    def gain(self) -> float:
        """``1 / sqrt(power)``: times ``1 / sqrt(n_in)`` the deviation of weights that keep the signal's size;
        sqrt(2) for ReLU (He et al. 2015, equation 10).
        """
        return 1 / math.sqrt(self.power)

    def value(self, z: Tensor) -> Tensor:
        """``phi(z)``, elementwise, in the dtype of `z`."""
        return _values(self.name, z)

    def slope(self, z: Tensor) -> Tensor:
        """``phi'(z)``, elementwise; at a kink what torch's own backward pass takes."""
        return _slope(self.name, z)


class Activations(tuple[Activation, ...]):
    """Rows of the table; printed they are the table."""

    __slots__ = ()

    def __str__(self) -> str:
        head = ("activation", "values", "slopes", "saturated", "of N(0,1)", "mean", "gain")
        rows = [head, *map(_row, self)]
        if any(each.cost is not None for each in self):
            costs = ("cost", *("-" if each.cost is None else f"{each.cost:.1f}" for each in self))
            rows = [(*row, told) for row, told in zip(rows, costs, strict=True)]
            head = rows[0]
        widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
        lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) for row in rows]
        return "\n".join(line.rstrip() for line in lines)


def activations(
    names: Sequence[str] | None = None, *, share: float = 0.01, cost: bool = False
) -> Activations:
    """The table of activations that `activation=` takes.

    Means are integrals against the normal density, by Gauss and Legendre's rule between the kinks (error
    below 1e-12); ends of saturation by bisection. A parametric activation is taken at its start (PReLU .25).

    Args:
        names: those wanted, in this order; None takes all.
        share: float in (0, 1), the slope below which an activation counts as saturated. The default, a
            hundredth, is a convention: leaky ReLU's usual slope of .01 is not saturated, that of ReLU is.
        cost: measure what a forward and backward pass costs here, in multiples of ReLU's, besides.

    Returns:
        One `Activation` a name; ``print`` shows the table.

    Raises:
        ModelError: an unknown name, or a share outside (0, 1).
    """
    if not 0 < share < 1:
        raise ModelError(f"share={share}: must lie in (0, 1), it is the slope that counts as none")
    wanted = list(ACTIVATIONS) if names is None else [activation_name(each) for each in names]
    rows = [_measured(name, share) for name in wanted]
    if cost:
        taken = costs(wanted)
        rows = [replace(row, cost=taken[row.name]) for row in rows]
    return Activations(rows)


@functools.cache
def _measured(name: str, share: float) -> Activation:
    ends = torch.tensor([-FAR, FAR], dtype=torch.float64)
    everywhere = torch.cat([_GRID, ends])
    values, slope = _values(name, everywhere), _slope(name, everywhere)
    nodes, weights = _normal_rule()
    value, steep = _values(name, nodes), _slope(name, nodes)
    saturated = _below(name, share)
    return Activation(
        name=name,
        lowest=_limit(float(values.min())),
        highest=_limit(float(values.max())),
        flattest=float(slope.min()),
        steepest=float(slope.max()),
        saturated=saturated,
        lost=sum(_normal(high) - _normal(low) for low, high in saturated),
        mean=float(weights @ value),
        power=float(weights @ value.square()),
        slope_power=float(weights @ steep.square()),
    )


def _values(name: str, z: Tensor) -> Tensor:
    with torch.no_grad():
        return activation_of(name).to(z)(z)


def _slope(name: str, z: Tensor) -> Tensor:
    with torch.enable_grad():
        leaf = z.detach().clone().requires_grad_()
        out: Tensor = activation_of(name).to(leaf)(leaf)
        return torch.autograd.grad(out.sum(), leaf)[0]


def _limit(value: float) -> float:
    return math.copysign(math.inf, value) if abs(value) > 1e-3 * FAR else value


def _normal(z: float) -> float:
    return 0.5 * math.erfc(-z / math.sqrt(2))


@functools.cache
def _normal_rule() -> tuple[Tensor, Tensor]:
    """Nodes and weights of ``E[f(Z)]``: 20 in each quarter from -12 to 12, where every kink is an end."""
    nodes, weights = np.polynomial.legendre.leggauss(20)
    starts = np.arange(-12, 12, 0.25)
    z = (starts[:, None] + 0.125 * (nodes + 1)).ravel()
    density = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    return torch.from_numpy(z), torch.from_numpy(np.tile(0.125 * weights, len(starts)) * density)


def _below(name: str, share: float) -> tuple[tuple[float, float], ...]:
    """The intervals with ``|slope| < share``; one that goes on beyond the grid ends at infinity."""
    inside: list[bool] = (_slope(name, _GRID).abs() < share).tolist()
    found: list[tuple[float, float]] = []
    start = -math.inf if inside[0] else None
    for i in range(1, len(inside)):
        if inside[i] == inside[i - 1]:
            continue
        end = _bisect(name, share, float(_GRID[i - 1]), float(_GRID[i]))
        if inside[i]:
            start = end
        elif start is not None:
            found.append((start, end))
            start = None
    if start is not None:
        found.append((start, math.inf))
    return tuple(found)


def _bisect(name: str, share: float, low: float, high: float) -> float:
    """Where ``|slope| < share`` changes between `low` and `high`."""

    def inside(z: float) -> bool:
        return bool(_slope(name, torch.tensor([z], dtype=torch.float64)).abs() < share)

    before = inside(low)
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if inside(middle) == before else (low, middle)
    return (low + high) / 2


def _row(each: Activation) -> tuple[str, ...]:
    spans = ", ".join(f"{_number(low)}..{_number(high)}" for low, high in each.saturated)
    return (
        each.name,
        f"{_number(each.lowest)}..{_number(each.highest)}",
        f"{_number(each.flattest)}..{_number(each.steepest)}",
        spans or "nowhere",
        f"{each.lost:.1%}" if each.saturated else "-",
        f"{each.mean + 0.0:.3f}" if abs(each.mean) > 5e-4 else "0",
        f"{each.gain:.3f}",
    )


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) > 5e-4 else "0"
