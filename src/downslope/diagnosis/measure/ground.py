"""The ground where a run ended: slope, and the extreme curvatures, at its last weights."""

from __future__ import annotations

from typing import Any

import torch

from downslope.core.errors import DownslopeError
from downslope.core.problem import Problem
from downslope.core.run import Run
from downslope.terrain.ground import ground_of
from downslope.terrain.hvp import length
from downslope.terrain.spectrum import extremes
from downslope.terrain.surveys.reach import reach_of

EXAMPLES = 256
"""Examples on which the curvature is measured."""

STEPS = 18
"""Products with the Hessian at most."""

GOOD = 0.01
"""Error of an eigenvalue that is good enough, as a share of it."""


def measure(run: Run, problem: Problem) -> dict[str, Any]:
    """Gradient and curvature of the objective on a sample, in eval mode (no dropout, norms as they are used).

    Returns:
        ``grad_norm``, ``weight_norm``, ``reach`` (a tenth of the weights' norm, or of that of rows of norm 1
        where they are smaller), ``loss``, ``lambda_max`` and ``lambda_min`` with their residuals and errors,
        ``downhill`` (cosine of the gradient with the direction of the smallest curvature), ``products``,
        ``exact`` (False where the products were differences of gradients).

    Raises:
        DownslopeError: the curvature is not finite.
    """
    ground = ground_of(problem, run, examples=EXAMPLES)
    loss, gradient = ground.slope()
    found = extremes(ground.hessian(), tol=GOOD, steps=STEPS)
    if found.status == "non-finite":
        raise DownslopeError("the curvature at the last weights is not finite")
    slope, weights = length(gradient.double()), length(ground.where().double())
    along = abs(float(torch.dot(gradient, found.vectors[-1].to(gradient))))
    return {
        "grad_norm": slope, "weight_norm": weights, "reach": reach_of(ground), "loss": loss,
        "lambda_max": float(found.values[0]), "lambda_max_residual": float(found.residuals[0]),
        "lambda_min": float(found.values[-1]), "lambda_min_residual": float(found.residuals[-1]),
        "lambda_max_error": float(found.errors[0]), "lambda_min_error": float(found.errors[-1]),
        "downhill": along / max(slope, 1e-300), "products": found.products, "exact": found.exact,
    }  # fmt: skip
