"""Losses that are sums over a batch, brought to batches of one size: that of the run's own steps."""

from __future__ import annotations

from typing import Any

from downslope.core import batches
from downslope.core.fixed_sample import PROBED, SCORED
from downslope.core.growth import SUM
from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.core.run import Run
from downslope.core.sources import Memory

__all__ = ["SUM", "is_sum", "rescale", "rows"]


def is_sum(run: Run) -> bool:
    """Whether the run's objective adds up the examples of a batch."""
    return ((run.facts.get("objective") or {}).get("growth") or 1.0) >= SUM


def rows(run: Run, problem: Problem, recipe: Recipe) -> int | None:
    """Examples of a step where the objective is their sum; None where it is a mean."""
    if not is_sum(run):
        return None
    source = problem.train_source
    if not isinstance(source, Memory):
        return batches.length(next(iter(source.stored(1))))
    return min(recipe.batch_size, source.size) if isinstance(recipe.batch_size, int) else source.size


def rescale(run: Run, problem: Problem, recipe: Recipe) -> None:
    """Bring the losses of start and best constant, measured on large samples, to the batch of a step."""
    count = rows(run, problem, recipe)
    if count is None:
        return
    train, valid = problem.train_source, problem.valid_source
    for fact, key, source, most in (
        ("start", "loss", train, PROBED),
        ("start", "trained_loss", train, PROBED),
        ("constant", "loss", train, SCORED),
        ("constant", "valid_loss", valid, SCORED),
    ):
        table: dict[str, Any] = run.facts.get(fact) or {}
        if source is not None and table.get(key) is not None:
            table[key] *= count / min(most, source.size or most)
