"""Short trials with other learning rates, from the same seed and on the same batches."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from downslope.core.edits import SetRecipe
from downslope.core.fixed_sample import Held
from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.core.run import Run
from downslope.diagnosis.progress import STANDING, table
from downslope.diagnosis.trials import Scores, attempt, control_at

DECADES = (0.1, 10.0, 0.01, 100.0, 1e-3, 1e3, 1e-4)
"""Rates tried, in multiples of the recipe's own, near ones first: a decade is worth a trial."""

FAR_BEYOND = 20.0
"""Multiple of the stable limit from which half the limit is tried first, decades being too slow a search."""

USUAL = 1e-3
"""Update of a module in its weights a step, as usual (CS231n)."""

AROUND = (0.3, 3.0)
"""Rates tried about the best decade."""


def measure(
    run: Run, problem: Problem, recipe: Recipe, held: Held, steps: int, until: float
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
        the objective is maximised. And ``scores`` of the same trials, in the user's units; ``late``, the
        rates that no time was left for.
    """
    if not recipe.lr:
        return None
    sign = -1.0 if problem.maximize else 1.0
    constant = table(run, "constant").get("loss")
    start = constant if constant is not None else table(run, "start").get("loss")
    if start is None:
        return None
    control = control_at(run, steps)["loss"]
    tried: list[tuple[float, float | None]] = []
    scores: list[Scores] = []
    late: list[float] = []

    def attempt_at(lr: float) -> None:
        rounded = float(f"{lr:.3g}")
        left = until - time.monotonic()
        if left <= 0:
            late.append(rounded)
        elif all(rounded != each for each, _ in tried):
            found = attempt(problem, recipe, SetRecipe({"lr": rounded}), steps, held, left)
            if found.get("status") == "cut":
                late.append(rounded)
                return
            loss = found.get("loss")
            tried.append((rounded, None if loss is None else sign * loss))
            scores.append({key: found.get(key) for key in ("loss", "valid_loss", "valid_metric")})

    for far in (_safe(run, recipe.lr), _brisk(run, recipe.lr)):
        if far is not None:
            attempt_at(far)
    signed = None if control is None else sign * control
    standing = signed is None or sign * start - signed < STANDING * abs(start)
    for factor in DECADES:
        if standing or _promising(tried, recipe.lr, factor, signed):
            attempt_at(recipe.lr * factor)
    known = [(loss, lr) for lr, loss in tried if loss is not None]
    if known:
        best = min(known)[1]
        for factor in AROUND:
            attempt_at(best * factor)
    return {
        "lr": float(recipe.lr),
        "control": signed,
        "start": sign * start,
        "tried": tried,
        "scores": scores,
        "steps": steps,
        "late": late,
    }


def _safe(run: Run, lr: float) -> float | None:
    """Half the method's stable limit at the start, where the recipe's rate is far beyond it."""
    ratio = table(run, "sharpness").get("ratio")
    return lr / (2 * ratio) if ratio is not None and ratio > FAR_BEYOND else None


def _brisk(run: Run, lr: float) -> float | None:
    """The rate at which updates are of the usual size, where the recipe's are far smaller."""
    if "update_ratio" not in run.probes:
        return None
    values = run.probes["update_ratio"].values
    if np.isnan(values).all():
        return None
    update = float(np.nanmedian(values))
    return lr * USUAL / update if 0 < update < USUAL / 1000 else None


def _promising(
    tried: list[tuple[float, float | None]], own: float, factor: float, control: float | None
) -> bool:
    """Whether the decade before this one on the same side was tried and did no worse than the recipe's
    own.
    """
    if factor in (0.1, 10.0) or control is None:
        return True
    before = [loss for lr, loss in tried if (lr < own) == (factor < 1)]
    return bool(before) and before[-1] is not None and before[-1] <= control
