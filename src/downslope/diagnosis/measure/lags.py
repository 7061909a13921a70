"""How much of the output depends on early steps of a sequence: the Jacobian by lag, before the first step."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from downslope.core.adapted import unwrap
from downslope.core.fixed_sample import precision, sample
from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.terrain.recurrence.recurrence import SHORTEST, Pass, profile

ROWS = 64
"""Sequences."""


def measure(problem: Problem, recipe: Recipe) -> dict[str, Any] | None:
    """Root mean square of the derivative of the output by the input of the recurrence, step by step.

    Returns:
        ``profile`` (one number a step, in the largest), ``ratio`` (its first eighth in its last eighth: below
        1 the past fades, above 1 it explodes), ``modules`` (names of the recurrent modules), ``steps``, and
        ``kept`` where a loop hands no gradient on: "values" (a state without its graph) or "nothing".
        None for a model without a recurrence, or shorter sequences.
    """
    model = problem.build(recipe.seed, recipe.init).eval()
    args, kwargs, _ = problem.splitter(sample(problem.train_source, ROWS, precision(model)))
    seen = profile(Pass(unwrap(model), args, kwargs, recipe.seed))
    if seen is None:
        return None
    found = told(seen.values, seen.names)
    return found if found is None or seen.handed == "graph" else found | {"kept": seen.handed}


def told(profile: Tensor, names: list[str]) -> dict[str, Any] | None:
    """The fact ``lags`` of a profile by step; None for short sequences, or one of zeros."""
    steps = len(profile)
    if steps < SHORTEST or not float(profile.max()) > 0:
        return None
    eighth = max(1, steps // 8)
    ratio = float(profile[:eighth].max()) / max(float(profile[-eighth:].max()), 1e-300)
    shape = (profile / profile.max()).tolist()
    return {"profile": shape, "ratio": ratio, "modules": names, "steps": steps}
