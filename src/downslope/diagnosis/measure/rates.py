"""Short trials with other learning rates, from the same seed and on the same batches."""

from __future__ import annotations

import time
from typing import Any

from downslope.core.edits import SetRecipe
from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.core.run import Run
from downslope.core.sources import Memory
from downslope.diagnosis.trials import attempt, control_at

FACTORS = (0.1, 10.0, 0.01, 100.0, 0.03, 0.3, 3.0, 30.0, 1e-3, 1e3)
"""Rates tried, in multiples of the recipe's own, the most telling first: a decade is worth a trial."""


def measure(
    run: Run, problem: Problem, recipe: Recipe, held: tuple[Memory, Memory | None], steps: int, until: float
) -> dict[str, Any] | None:
    """The loss after `steps` steps at other rates, while time is left.

    Args:
        run: The untouched run, whose history at `steps` is the control.
        problem: The problem.
        recipe: The untouched recipe.
        held: Examples to score on.
        steps: Of each trial.
        until: `time.monotonic` at which to stop.

    Returns:
        ``lr`` (the recipe's own), ``control``, ``start`` (loss of the best constant, else the first),
        ``tried`` (pairs of lr and loss, None where it left the numbers), ``steps``; losses are negated where
        the objective is maximised.
    """
    if not recipe.lr:
        return None
    sign = -1.0 if problem.maximize else 1.0
    constant = (run.facts.get("constant") or {}).get("loss")
    start = constant if constant is not None else (run.facts.get("start") or {}).get("loss")
    if start is None:
        return None
    control = control_at(run, steps)["loss"]
    tried: list[tuple[float, float | None]] = []
    for factor in FACTORS:
        if time.monotonic() > until:
            break
        if factor < 0.1 and not _promising(tried, recipe.lr, control, sign, lower=True):
            continue
        if factor > 10 and not _promising(tried, recipe.lr, control, sign, lower=False):
            continue
        lr = float(f"{recipe.lr * factor:.3g}")
        loss = attempt(problem, recipe, SetRecipe({"lr": lr}), steps, held).get("loss")
        tried.append((lr, None if loss is None else sign * loss))
    return {
        "lr": float(recipe.lr),
        "control": None if control is None else sign * control,
        "start": sign * start,
        "tried": tried,
        "steps": steps,
    }


def _promising(
    tried: list[tuple[float, float | None]], own: float, control: float | None, sign: float, *, lower: bool
) -> bool:
    """Whether the decade on this side was no worse than the recipe's own rate, or both are lost."""
    for lr, loss in tried:
        if (lr < own) == lower:
            return control is None or loss is None or loss <= sign * control
    return True
