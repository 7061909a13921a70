"""Whether a point that looks like a minimum is the bottom: Newton's step is taken, and its loss measured.

The slope within a reach tells little of a long and narrow valley, whose bottom may lie far beyond. Newton's
step ``-H^+ g`` leads there in one (of a quadratic), and the loss at it or on the way to it is a fact that no
conditioning spoils. Directions whose curvature is zero within its error are left out.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from downslope.terrain.ground import Ground
from downslope.terrain.hvp import length
from downslope.terrain.krylov import Krylov
from downslope.terrain.operators import Operator
from downslope.terrain.surveys.ends import Ends

STEPS = 24
"""Products with the Hessian, where not all of it is known."""

PARTS = (1.0, 0.25, 0.0625)
"""Of the step at which the loss is measured."""


def bottom(
    ground: Ground, operator: Operator, found: Ends, gradient: Tensor, loss: float
) -> tuple[float, float]:
    """How far the loss is seen to fall by Newton's step, and the length of the move that does it.

    Args:
        ground: Where it stands; it is put back there.
        operator: Its Hessian.
        found: Eigenvalues of it.
        gradient: Flat.
        loss: There.

    Returns:
        The fall, 0 where none was seen, and its length.
    """
    here, step = ground.where(), newton(operator, found, gradient)
    size, best = length(step.double()), (0.0, 0.0)
    if not (size > 0 and math.isfinite(size)):
        return best
    try:
        for part in PARTS:
            ground.put(here + part * step.to(here))
            fall = loss - ground.loss()
            best = max(best, (fall, part * size)) if math.isfinite(fall) else best
    finally:
        ground.put(here)
    return best


def newton(operator: Operator, found: Ends, gradient: Tensor) -> Tensor:
    """``-H^+ g``: of all eigenvalues above their errors, or in the Krylov space of the gradient.

    Args:
        operator: The Hessian.
        found: Eigenvalues of it.
        gradient: Flat.
    """
    if found.complete:
        values, vectors, errors = found.values, found.vectors.double().cpu(), found.errors
        slopes = vectors @ gradient.double().cpu()
        return -(torch.where(values > errors, slopes / values, 0.0) @ vectors).to(gradient.device)
    size, space = length(gradient), Krylov(operator.product, gradient, min(STEPS, len(gradient)))
    while not space.full and not (space.count and space.broken):
        space.grow()
        if space.lost:
            return torch.zeros_like(gradient)
    pairs = space.ritz()
    shares = torch.where(pairs.values > found.errors.max(), pairs.coordinates[0] / pairs.values, 0.0)
    return -size * ((pairs.coordinates @ shares).to(space.basis) @ space.basis[: space.count])
