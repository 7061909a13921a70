"""The sharpest direction before the first step, and what the recipe's own method can stand."""

from __future__ import annotations

from typing import Any

from downslope.core.errors import DownslopeError
from downslope.core.fixed_sample import precision, sample
from downslope.core.loss import Objective
from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.optim.stability import ADAPTIVE, method_of
from downslope.terrain.ground import ModelGround, Piece
from downslope.terrain.stability import stability
from downslope.training.optimizer import build_optimizer

EXAMPLES = 256
"""Examples on which the curvature is measured: it costs some thirty gradients."""

STEPS = 20
"""Products with the Hessian at most."""

GOOD = 5e-3
"""Error of the eigenvalue that is good enough, as a share of it."""


def measure(problem: Problem, recipe: Recipe) -> dict[str, Any]:
    """``lambda_max`` of the objective on a sample, in training mode, where the first step will be taken.

    Returns:
        It, its ``residual`` and ``error``, the ``limit`` of the recipe's method, their ``ratio``, and
        ``steps``, the products it took. With rates by group, all of it as the largest group sees it.

    Raises:
        DownslopeError: the method has no limit that is known before the first step.
    """
    model = problem.build(recipe.seed, recipe.init)
    optimizer = build_optimizer(recipe, model)
    if method_of(optimizer) in ADAPTIVE:
        raise DownslopeError("an adaptive method has no scale before its first step")
    batch = sample(problem.train_source, EXAMPLES, precision(model))
    ground = ModelGround(model, Objective(problem), [Piece(batch, 1.0)], seed=recipe.seed)
    found = stability(ground, optimizer, tol=GOOD, steps=STEPS)
    if found.limit is None:
        raise DownslopeError("the stable limit of this method is not known")
    if found.status == "non-finite":
        raise DownslopeError("the curvature before the first step is not finite")
    return {
        "lambda_max": found.sharpness, "residual": found.residual, "error": found.error, "limit": found.limit,
        "ratio": found.ratio, "steps": found.products,
    }  # fmt: skip
