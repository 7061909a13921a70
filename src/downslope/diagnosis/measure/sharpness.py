"""The sharpest direction before the first step, and what the recipe's own method can stand."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from downslope.core import randomness
from downslope.core.errors import DownslopeError
from downslope.core.fixed_sample import precision, sample
from downslope.core.loss import Objective
from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.optim.stability import method_of, stable_limit
from downslope.terrain.sharpness import sharpness
from downslope.training.optimizer import build_optimizer

EXAMPLES = 256
"""Examples on which the curvature is measured: it costs some thirty gradients."""

_ADAPTIVE = ("adam", "adamw", "rmsprop", "adagrad")


def measure(problem: Problem, recipe: Recipe) -> dict[str, Any]:
    """``lambda_max`` of the objective on a sample, its ``residual``, ``limit`` and their ``ratio``.

    Raises:
        DownslopeError: the method has no limit that is known before the first step.
    """
    model = problem.build(recipe.seed, recipe.init)
    optimizer = build_optimizer(recipe, model)
    if method_of(optimizer) in _ADAPTIVE:
        raise DownslopeError("an adaptive method has no scale before its first step")
    group = optimizer.param_groups[0]
    if any(each.get("lr") != group.get("lr") for each in optimizer.param_groups):
        raise DownslopeError("groups with learning rates of their own have no one stable limit")
    limit = stable_limit(optimizer, group)
    if limit is None:
        raise DownslopeError("the stable limit of this method is not known")
    batch = sample(problem.train_source, EXAMPLES, precision(model))
    objective = Objective(problem)

    def loss() -> Tensor:
        with randomness.seeded(recipe.seed, "probe", 0):
            return objective(model, batch).value

    params = [p for p in model.parameters() if p.requires_grad]
    found = sharpness(loss, params, generator=torch.Generator().manual_seed(0))
    if found.status == "non-finite":
        raise DownslopeError("the curvature before the first step is not finite")
    return {
        "lambda_max": found.value,
        "residual": found.residual,
        "limit": limit,
        "ratio": max(found.value, 0.0) / limit if limit > 0 else None,
        "steps": found.steps,
    }
