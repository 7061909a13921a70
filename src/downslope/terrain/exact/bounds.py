"""How far a point can be from the minimum: by curvature near it, and by the dual problem.

Curvature: a generalised self-concordant loss keeps ``H(psi + v) >= exp(-R |v|) H(psi)``, R the longest white
row (times sqrt(2) for a softmax; Bach 2010, "Self-concordant analysis for logistic regression", section 2).
If ``r > 2 |g| / m`` for a ball of radius r, ``m = exp(-R r) mu``, then the minimum exists, lies within
``|g| / m``, and ``f - f* <= |g|^2 / 2m``.

Duality: ``f* >= -1/M sum l*(a_i) - |X^T a / M|^2 / (2 l2)`` for slopes `a` that sum to zero over the
examples, as the biases are free (Boyd and Vandenberghe 2004, section 5.1).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from downslope.terrain.exact.design import Design
from downslope.terrain.exact.linalg import length
from downslope.terrain.exact.losses import ConvexLoss
from downslope.terrain.exact.newton import White
from downslope.terrain.exact.rounding import Told


class Bound(NamedTuple):
    """A proof of how close the minimum is; infinite where there is none."""

    gap: float
    """``f - f*`` at most."""
    distance: float
    """``|psi - psi*|`` at most."""


NOTHING = Bound(math.inf, math.inf)

ROUNDING = 1e-15
"""Relative rounding of a primal and a dual value, of which a gap is the difference."""


def by_inverse(half: Tensor, slope: Told) -> Bound:
    """Of a quadratic with inverse Hessian ``half half^T``: ``g^T H^-1 g / 2`` and ``|H^-1 g|``, by theta.

    Args:
        half: (p, rank).
        slope: The gradient, (p, k), and how far it may be off.
    """
    inner, unsure = half.T @ slope.gradient, half.T.abs() @ slope.slack
    gap = 0.5 * (length(inner) + length(unsure)) ** 2
    return Bound(gap, length(half @ inner) + length((half @ half.T).abs() @ slope.slack))


def by_curvature(white: White, psi: Tensor, gradient: Tensor, curvature: float, slack: float = 0.0) -> Bound:
    """From the gradient at psi, off by `slack` at most, and the smallest eigenvalue of the Hessian there."""
    loss, g = white.design.loss, length(gradient) + slack
    if not curvature > 0:
        return NOTHING
    if loss.name == "squared error":
        return Bound(g * g / (2 * curvature), g / curvature)
    longest = max(float(x.square().sum(-1).max()) for x, _, _ in white.blocks()) ** 0.5
    if loss.name == "Huber's error":
        return _until_it_bends(white, psi, g, curvature, longest)
    reach = longest * (math.sqrt(2.0) if loss.classes or not white.kron else 1.0)
    radius = 1.0 / reach  # where r exp(-R r) is largest
    m = curvature * math.exp(-1.0)
    if 2 * g >= radius * m:
        return NOTHING
    for _ in range(60):  # the smallest ball that will do says most
        smaller = radius / 2
        if 2 * g >= smaller * curvature * math.exp(-reach * smaller):
            break
        radius = smaller
    m = curvature * math.exp(-reach * radius)
    return Bound(g * g / (2 * m), g / m)


def _until_it_bends(white: White, psi: Tensor, g: float, curvature: float, longest: float) -> Bound:
    """Of Huber's error, a quadratic in the ball in which no residual gets to its kinks."""
    delta = white.design.loss.delta
    room = min(
        float(((white.outputs(x, o, psi) - y).abs() - delta).abs().min()) for x, o, y in white.blocks()
    )
    if 2 * g >= curvature * room / longest:
        return NOTHING
    return Bound(g * g / (2 * curvature), g / curvature)


def by_duality(design: Design, theta: Tensor, l2: float, value: float) -> float:
    """``f - f*`` at most, from the dual point that the slopes at `theta` give; infinite without a penalty."""
    simple = design.layer is not None and l2 > 0
    if not simple or not all(design.loss.has_dual(block.target) for block in design.blocks()):
        return math.inf
    slopes = _feasible(design, theta) if bool(design.free.any()) else _slopes(design, theta)
    conjugate, pulled = 0.0, torch.zeros_like(theta)
    for block, a in slopes:
        conjugate += float(design.loss.conjugate(a, block[1]))
        pulled += block[0].T @ a
    pulled = pulled[~design.free] / design.total
    dual = -conjugate / design.total - float(pulled.square().sum()) / (2 * l2)
    return max(value - dual, 0.0) + ROUNDING * abs(value)


_Pair = tuple[tuple[Tensor, Tensor], Tensor]


def _slopes(design: Design, theta: Tensor) -> Iterator[_Pair]:
    for block in design.blocks():
        yield (block.rows, block.target), design.loss.slope(block.rows @ theta, block.target)


def _feasible(design: Design, theta: Tensor) -> Iterator[_Pair]:
    """Slopes that sum to zero for each output, and that the loss can have."""
    up = down = torch.zeros(theta.shape[1], dtype=torch.float64)
    share = torch.zeros_like(up)
    for (_, y), a in _slopes(design, theta):
        up, down = up + a.clamp_min(0).sum(0), down - a.clamp_max(0).sum(0)
        share = share + (a + y).sum(0)
    over = up - down
    for pair, a in _slopes(design, theta):
        yield pair, _balanced(design.loss, a, pair[1], up, down, over, share)


def _balanced(
    loss: ConvexLoss, a: Tensor, y: Tensor, up: Tensor, down: Tensor, over: Tensor, share: Tensor
) -> Tensor:
    if not loss.classes:  # each output by itself: the heavier side is scaled down
        tiny = 1e-300
        raised = a.clamp_min(0) * (torch.minimum(up, down) / up.clamp_min(tiny)).clamp(max=1)
        lowered = a.clamp_max(0) * (torch.minimum(up, down) / down.clamp_min(tiny)).clamp(max=1)
        return raised + lowered
    p = a + y  # the shares of the classes, which stay shares: from classes that have too much to the others
    excess, lack = over.clamp_min(0), (-over).clamp_min(0)
    taken = p * (excess / share.clamp_min(1e-300))
    total = float(lack.sum())
    given = taken.sum(1, keepdim=True) * lack / total if total > 0 else torch.zeros_like(p)
    return p - taken + given - y
