"""What following the slope can win within a reach: the trust region in the Krylov space of the gradient.

``max_{|d| <= r} -g d - d |H| d / 2``. The magnitude ``|H|`` bends up what bends down, so that only the slope
counts and not the way down that a negative curvature offers (Dauphin, Pascanu, Gulcehre, Cho, Ganguli and
Bengio 2014, Identifying and attacking the saddle point problem, section 5). Of a convex quadratic it is the
gap to the minimum, where that is within reach. The subspace gives it from below, at the pace at which
conjugate gradients would (Gould, Lucidi, Roma and Toint 1999, Solving the trust-region subproblem using the
Lanczos method).
"""

from __future__ import annotations

from torch import Tensor

from downslope.terrain.hvp import length
from downslope.terrain.krylov import Krylov
from downslope.terrain.operators import Operator

STEPS = 12
"""Products with the Hessian."""


def gain(operator: Operator, gradient: Tensor, reach: float, *, steps: int = STEPS) -> float:
    """What the slope wins within `reach`, in the loss's unit.

    Args:
        operator: The Hessian.
        gradient: Flat, shape (n,).
        reach: Length of the move, float in (0, inf).
        steps: Products at most.
    """
    size = length(gradient)
    if size == 0 or not reach > 0:
        return 0.0
    space = Krylov(operator.product, gradient, min(steps, len(gradient)))
    while not space.full and not (space.count and space.broken):
        space.grow()
        if space.lost:
            return size * reach  # the bound that holds whatever the curvature is
    found = space.ritz()
    return won(found.values, size * found.coordinates[0], reach)


def won(values: Tensor, slopes: Tensor, reach: float) -> float:
    """The same where the eigenvalues and the gradient's coordinates in the eigenvectors are known.

    The step is ``d_i = -g_i / (|lambda_i| + mu)``; mu is zero where it is short enough, else such that its
    length is `reach` (More and Sorensen 1983), found by bisection.
    """
    bends, g = values.double().abs(), slopes.double().to(values.device)
    g, bends = g[g != 0], bends[g != 0]

    def step(mu: float) -> Tensor:
        return g / (bends + mu).clamp_min(1e-300)

    low, high = 0.0, length(g) / reach
    if length(step(0.0)) <= reach:
        high = 0.0
    for _ in range(100 if high else 0):
        mu = 0.5 * (low + high)
        low, high = (mu, high) if length(step(mu)) > reach else (low, mu)
    d = step(high)
    return float((g * d).sum() - 0.5 * (bends * d.square()).sum())
