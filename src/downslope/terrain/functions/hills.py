"""Many minima: four alike, three to a coordinate, eleven to a coordinate."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from downslope.core.errors import InputError
from downslope.terrain.functions.function import CriticalPoint, Function, Kind, product

_LISTED = 20_000
"""Critical points up to which all are listed."""


def _himmelblau(x: Tensor) -> Tensor:
    a, b = x[..., 0], x[..., 1]
    return (a**2 + b - 11) ** 2 + (a + b**2 - 7) ** 2


def _rastrigin(x: Tensor) -> Tensor:
    return 10 * x.shape[-1] + (x**2 - 10 * torch.cos(2 * torch.pi * x)).sum(-1)


def _styblinski_tang(x: Tensor) -> Tensor:
    return (x**4 - 16 * x**2 + 5 * x).sum(-1) / 2


def himmelblau() -> Function:
    """``(x^2 + y - 11)^2 + (x + y^2 - 7)^2``: four minima alike, a maximum, and four saddles between them.

    Source: Himmelblau 1972, Applied Nonlinear Programming.
    """
    minima = (
        (3.0, 2.0),
        (3.5844283403304917, -1.8481265269644036),
        (-3.779310253377747, -3.2831859912861696),
        (-2.805118086952745, 3.131312518250573),
    )
    saddles = {
        (3.3851541836070207, 0.07385187983774925): 13.31192627040559,
        (0.08667750455539637, 2.8842547011747763): 67.71915008752613,
        (-3.0730257507643897, -0.08135304428796752): 104.01516291755811,
        (-0.12796134673068008, -1.9537149802445763): 178.33723920192745,
    }
    return Function(
        name="himmelblau",
        formula="(x² + y − 11)² + (x + y² − 7)²",
        dimension=2,
        evaluate=_himmelblau,
        domain=((-5.0, 5.0), (-5.0, 5.0)),
        start=(0.0, 0.0),
        critical=(
            *(CriticalPoint(at=each, value=0.0, kind="minimum", is_global=True) for each in minima),
            *(CriticalPoint(at=at, value=value, kind="saddle") for at, value in saddles.items()),
            CriticalPoint(
                at=(-0.2708445906673476, -0.9230385564799815), value=181.6165215225827, kind="maximum"
            ),
        ),
        infimum=0.0,
        shows="four minima equally good: the method decides between them, not the function",
        source="Himmelblau 1972, Applied Nonlinear Programming",
    )


def styblinski_tang(dimension: int = 2) -> Function:
    """``1/2 sum of x_i^4 - 16 x_i^2 + 5 x_i``: two wells to a coordinate, one the deeper.

    Args:
        dimension: Coordinates, at least 1. Its 3^dimension critical points are listed up to 20,000.

    Raises:
        InputError: fewer.

    Source: Styblinski and Tang 1990, "Experiments in nonconvex optimization".
    """
    _at_least_one("styblinski_tang", dimension)
    roots = sorted(float(each.real) for each in np.roots([4.0, 0.0, -32.0, 5.0]))
    roots = [each - (4 * each**3 - 32 * each + 5) / (12 * each**2 - 32) for each in roots]
    kinds: tuple[Kind, ...] = ("minimum", "maximum", "minimum")
    whole = 3**dimension <= _LISTED
    kept = list(zip(roots, kinds, strict=True))[: None if whole else 1]
    points = product(kept, _styblinski_tang_on_line, dimension)
    return Function(
        name="styblinski_tang",
        formula="½ Σ xᵢ⁴ − 16 xᵢ² + 5 xᵢ",
        dimension=dimension,
        evaluate=_styblinski_tang,
        domain=((-5.0, 5.0),) * dimension,
        start=(1.0,) * dimension,
        critical=points,
        whole=whole,
        infimum=points[0].value,
        shows="each coordinate chooses its well by itself: of 2^d minima one is the lowest",
        source="Styblinski and Tang 1990",
        settings={"dimension": dimension} if dimension != 2 else {},
    )


def rastrigin(dimension: int = 2) -> Function:
    """``10 d + sum of x_i^2 - 10 cos(2 pi x_i)``: a minimum near every whole number.

    Args:
        dimension: Coordinates, at least 1. Its 21^dimension critical points on the domain are listed up to
            20,000.

    Raises:
        InputError: fewer.

    Source: Rastrigin 1974, Systems of Extremal Control.
    """
    _at_least_one("rastrigin", dimension)
    roots = _rastrigin_roots()
    whole = len(roots) ** dimension <= _LISTED
    kept = roots if whole else tuple(each for each in roots if each[0] == 0)
    return Function(
        name="rastrigin",
        formula="10 d + Σ xᵢ² − 10 cos(2πxᵢ)",
        dimension=dimension,
        evaluate=_rastrigin,
        domain=((-5.12, 5.12),) * dimension,
        start=(2.2,) * dimension,
        critical=product(kept, _rastrigin_on_line, dimension),
        whole=whole,
        infimum=0.0,
        shows="most starts end in a local minimum: the number of minima is 11 to the power of the dimension",
        source="Rastrigin 1974; Mühlenbein, Schomisch and Born 1991",
        settings={"dimension": dimension} if dimension != 2 else {},
    )


def _styblinski_tang_on_line(x: float) -> float:
    return (x**4 - 16 * x**2 + 5 * x) / 2


def _rastrigin_on_line(x: float) -> float:
    return 20 * math.sin(math.pi * x) ** 2 + x**2


@functools.cache
def _rastrigin_roots() -> tuple[tuple[float, Kind], ...]:
    """Where ``2 x + 20 pi sin(2 pi x) = 0`` in [-5.12, 5.12]."""
    from scipy import optimize

    scipy: Any = optimize  # without complete stubs

    def slope(x: float) -> float:
        return 2 * x + 20 * math.pi * math.sin(2 * math.pi * x)

    grid = np.linspace(0.25, 5.12, 2000)
    right: list[tuple[float, Kind]] = []
    for low, high in zip(grid[:-1].tolist(), grid[1:].tolist(), strict=True):
        if slope(low) * slope(high) < 0:
            root = float(scipy.brentq(slope, low, high, xtol=1e-15, rtol=8.9e-16))
            right.append((root, "minimum" if slope(low) < 0 else "maximum"))
    left: list[tuple[float, Kind]] = [(-root, kind) for root, kind in reversed(right)]
    return (*left, (0.0, "minimum"), *right)


def _at_least_one(name: str, dimension: int) -> None:
    if dimension < 1:
        raise InputError(f"{name}(dimension={dimension}): needs at least 1 coordinate")
