"""Narrow valleys and walls: what makes the choice of a step hard."""

from __future__ import annotations

import functools
import math
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from downslope.core.errors import InputError
from downslope.terrain.functions.function import CriticalPoint, Function


def _rosenbrock(x: Tensor) -> Tensor:
    here, following = x[..., :-1], x[..., 1:]
    return (100 * (following - here**2) ** 2 + (1 - here) ** 2).sum(-1)


def _beale(x: Tensor) -> Tensor:
    a, b = x[..., 0], x[..., 1]
    return (1.5 - a + a * b) ** 2 + (2.25 - a + a * b**2) ** 2 + (2.625 - a + a * b**3) ** 2


def _booth(x: Tensor) -> Tensor:
    a, b = x[..., 0], x[..., 1]
    return (a + 2 * b - 7) ** 2 + (2 * a + b - 5) ** 2


def _matyas(x: Tensor) -> Tensor:
    a, b = x[..., 0], x[..., 1]
    return 0.26 * (a**2 + b**2) - 0.48 * a * b


def _unit(x: Tensor) -> Tensor:
    w, b = x[..., 0], x[..., 1]
    state = torch.full_like(w, 0.5)
    for _ in range(50):
        state = w * torch.sigmoid(state) + b
    return (torch.sigmoid(state) - 0.7) ** 2


def rosenbrock(dimension: int = 2) -> Function:
    """``sum of 100 (x_{i+1} - x_i^2)^2 + (1 - x_i)^2``: a bent, narrow valley to (1, ..., 1).

    Up to 3 coordinates that is its one critical point; from 4 on there is a local minimum near
    (-1, 1, ..., 1) as well (Shang and Qiu 2006), and there are saddles, which are not listed.

    Args:
        dimension: Coordinates, at least 2.

    Raises:
        InputError: fewer.
    """
    if dimension < 2:
        raise InputError(f"rosenbrock(dimension={dimension}): needs at least 2 coordinates")
    points = [CriticalPoint(at=(1.0,) * dimension, value=0.0, kind="minimum", is_global=True)]
    if (second := _second_minimum(dimension)) is not None:
        points.append(second)
    return Function(
        name="rosenbrock",
        formula="Σ 100 (x₍ᵢ₊₁₎ − xᵢ²)² + (1 − xᵢ)²" if dimension > 2 else "100 (y − x²)² + (1 − x)²",
        dimension=dimension,
        evaluate=_rosenbrock,
        domain=((-2.0, 2.0), (-1.0, 3.0)) if dimension == 2 else ((-2.0, 2.0),) * dimension,
        start=(-1.2, 1.0) * (dimension // 2) + (-1.2,) * (dimension % 2),
        critical=tuple(points),
        whole=dimension < 4,
        infimum=0.0,
        shows="the way down is found at once, the way along the valley takes thousands of steps",
        source="Rosenbrock 1960; for more coordinates Shang and Qiu 2006",
        settings={"dimension": dimension} if dimension != 2 else {},
    )


@functools.cache
def _second_minimum(dimension: int) -> CriticalPoint | None:
    """The local minimum near (-1, 1, ..., 1), by Newton's method; None where there is none."""
    if dimension < 4:
        return None
    from scipy import optimize

    scipy: Any = optimize  # without complete stubs
    rosen, rosen_der, rosen_hess = scipy.rosen, scipy.rosen_der, scipy.rosen_hess
    point: Any = np.ones(dimension)
    point[0] = -0.99
    for _ in range(30):
        point = point - np.linalg.solve(rosen_hess(point), rosen_der(point))
    curved = np.linalg.eigvalsh(rosen_hess(point))
    if np.abs(rosen_der(point)).max() > 1e-8 or curved[0] <= 0 or point[0] > 0:
        return None
    at = cast("list[float]", point.tolist())
    value: Any = rosen(point)
    return CriticalPoint(at=tuple(at), value=float(value), kind="minimum")


def beale() -> Function:
    """``(1.5 - x + xy)^2 + (2.25 - x + xy^2)^2 + (2.625 - x + xy^3)^2``: flat, with walls in the corners.

    Source: Beale 1958; Moré, Garbow and Hillstrom 1981, problem 5, with their start.
    """
    return Function(
        name="beale",
        formula="(1.5 − x + xy)² + (2.25 − x + xy²)² + (2.625 − x + xy³)²",
        dimension=2,
        evaluate=_beale,
        domain=((-4.5, 4.5), (-4.5, 4.5)),
        start=(1.0, 1.0),
        critical=(
            CriticalPoint(at=(3.0, 0.5), value=0.0, kind="minimum", is_global=True),
            CriticalPoint(
                at=(0.1005379373241584, -2.6445135850231245), value=9.86451228475556, kind="saddle"
            ),
            CriticalPoint(at=(0.0, 1.0), value=14.203125, kind="saddle"),
        ),
        infimum=0.0,
        shows="gradients differ by a factor of a million between the corners and the floor",
        source="Beale 1958; Moré, Garbow and Hillstrom 1981, problem 5",
    )


def booth() -> Function:
    """``(x + 2y - 7)^2 + (2x + y - 5)^2``: a bowl of condition 9 with its minimum at (1, 3)."""
    return Function(
        name="booth",
        formula="(x + 2y − 7)² + (2x + y − 5)²",
        dimension=2,
        evaluate=_booth,
        domain=((-10.0, 10.0), (-10.0, 10.0)),
        start=(-8.0, 8.0),
        critical=(CriticalPoint(at=(1.0, 3.0), value=0.0, kind="minimum", is_global=True),),
        infimum=0.0,
        convex=True,
        shows="a harmless bowl, turned by 45 degrees against the axes",
        source="Booth 1949, An application of the method of steepest descents",
    )


def matyas() -> Function:
    """``.26 (x^2 + y^2) - .48 xy``: a bowl of condition 25, its valley along x = y."""
    return Function(
        name="matyas",
        formula="0.26 (x² + y²) − 0.48 xy",
        dimension=2,
        evaluate=_matyas,
        domain=((-10.0, 10.0), (-10.0, 10.0)),
        start=(-9.0, 5.0),
        critical=(CriticalPoint(at=(0.0, 0.0), value=0.0, kind="minimum", is_global=True),),
        infimum=0.0,
        convex=True,
        shows="a valley along x = y: methods that scale each axis by itself cannot undo it",
        source="Matyas 1965, Random optimization",
    )


class _Bowl:
    """``1/2 x^T R diag(eigenvalues) R^T x``, R a turn of the first two axes."""

    def __init__(self, eigenvalues: list[float], angle: float) -> None:
        self.eigenvalues = eigenvalues
        self.turn = math.cos(math.radians(angle)), math.sin(math.radians(angle)), bool(angle)

    def __call__(self, x: Tensor) -> Tensor:
        scale = torch.tensor(self.eigenvalues, dtype=x.dtype, device=x.device)
        cosine, sine, turned = self.turn
        if turned:
            a, b = x[..., 0], x[..., 1]
            first = [cosine * a + sine * b, cosine * b - sine * a]
            x = torch.cat([torch.stack(first, -1), x[..., 2:]], -1)
        return 0.5 * (scale * x**2).sum(-1)


def bowl(condition: float = 20.0, dimension: int = 2, smallest: float = 0.2, angle: float = 0.0) -> Function:
    """``1/2 sum of eigenvalue_i x_i^2``: convex, with the condition number asked for.

    The eigenvalues lie evenly on a logarithmic scale from `smallest` to `condition` times as much. At its
    defaults it is .1 x^2 + 2 y^2 from (-5, -2), which Dive into Deep Learning draws in chapter 12.

    Args:
        condition: Largest eigenvalue over the smallest, at least 1.
        dimension: Coordinates, at least 1.
        smallest: Smallest eigenvalue, above 0.
        angle: Degrees by which the first two axes are turned.

    Raises:
        InputError: outside of these.
    """
    if not (condition >= 1 and math.isfinite(condition) and dimension >= 1 and 0 < smallest < math.inf):
        raise InputError(
            f"bowl(condition={condition}, dimension={dimension}, smallest={smallest}): needs a condition of "
            "at least 1, a dimension of at least 1, and a smallest eigenvalue above 0"
        )
    if angle and dimension < 2:
        raise InputError(f"bowl(angle={angle}): a line cannot be turned; needs at least 2 coordinates")
    eigenvalues: list[float] = np.geomspace(smallest, smallest * condition, dimension).tolist()
    given = {"condition": condition, "dimension": dimension, "smallest": smallest, "angle": angle}
    usual = {"condition": 20.0, "dimension": 2, "smallest": 0.2, "angle": 0.0}
    return Function(
        name="bowl",
        formula="½ Σ λᵢ xᵢ²" + (f", turned by {angle:g}°" if angle else ""),
        dimension=dimension,
        evaluate=_Bowl(eigenvalues, angle),
        domain=((-6.0, 6.0), (-3.0, 3.0)) if dimension == 2 and not angle else ((-6.0, 6.0),) * dimension,
        start=(-5.0, *[-2.0] * (dimension - 1)),
        critical=(CriticalPoint(at=(0.0,) * dimension, value=0.0, kind="minimum", is_global=True),),
        infimum=0.0,
        convex=True,
        shows=f"condition {condition:g}: the steep direction limits the step, the flat one needs a large one",
        source="Zhang et al., Dive into Deep Learning, section 12.6",
        settings={key: value for key, value in given.items() if value != usual[key]},
    )


def cliff() -> Function:
    """The loss of a recurrent unit after 50 steps over its weight and bias: a wall beside flat ground.

    ``(sigmoid(s_50) - .7)^2`` with ``s_t = w sigmoid(s_{t-1}) + b`` and ``s_0 = .5``. Its minima are a curve,
    ``b = log(7/3) - .7 w`` for small w; three of its points are named.

    Source: Pascanu, Mikolov and Bengio 2013, "On the difficulty of training recurrent neural networks",
    figure 6; the drawing of Goodfellow, Bengio and Courville 2016, figure 8.3.
    """
    curve = ((1.0, 0.1472978603872036), (2.0, -0.5527021396127962), (3.0, -1.2527021395984377))
    return Function(
        name="cliff",
        formula="(σ(s₅₀) − 0.7)², sₜ = w σ(sₜ₋₁) + b, s₀ = ½",
        dimension=2,
        evaluate=_unit,
        domain=((0.0, 7.0), (-4.0, 1.0)),
        start=(6.5, -2.2),
        critical=tuple(
            CriticalPoint(at=each, value=0.0, kind="minimum", is_global=True, degenerate=True)
            for each in curve
        ),
        whole=False,
        infimum=0.0,
        shows="one step over the edge of the wall is thrown far away, unless the gradient is clipped",
        source="Pascanu, Mikolov and Bengio 2013, figure 6",
    )
