"""What a run of a recipe will cost: a few steps are timed before it starts."""

from __future__ import annotations

import math
import time
from typing import NamedTuple

from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.core.run import Run
from downslope.core.sources import Memory
from downslope.training.evaluate import evaluate
from downslope.training.fit import fit
from downslope.training.hushed import hushed
from downslope.training.state import StepState
from downslope.training.targets import reported

_SHORT, _LONG = 2, 12


class Price(NamedTuple):
    """Seconds that a run takes."""

    steps: int | None
    """Of the whole run; None where the data does not say how long an epoch is."""
    per_step: float
    """Seconds a step."""
    per_epoch: float
    """Seconds that validation takes after an epoch."""
    epochs: float
    """Epochs of the whole run."""

    @property
    def seconds(self) -> float:
        """Of the whole run."""
        return (self.steps or 0) * self.per_step + self.epochs * self.per_epoch


class Clock:
    """When a loop began and when it ended: it is called before the first step and after the last."""

    first = last = 0.0

    def __call__(self, state: StepState) -> None:
        """Take the time."""
        self.last = time.monotonic()
        if not state.step:
            self.first = self.last


def total_steps(problem: Problem, recipe: Recipe) -> int | None:
    """Steps of a whole run; None where the data does not say how long an epoch is."""
    if recipe.steps is not None:
        return recipe.steps
    each = _per_epoch(problem, recipe)
    return None if each is None else each * (recipe.epochs or 1)


@reported()
@hushed()
def price(problem: Problem, recipe: Recipe) -> Price:
    """Time the loop of two steps and that of twelve, with nothing scored, and one validation.

    Raises:
        InputError: what `fit` raises.
        KeyboardInterrupt: Ctrl-C in one of those steps.
    """
    steps = total_steps(problem, recipe)
    each = _per_epoch(problem, recipe)
    long = _LONG if steps is None else min(_LONG, steps)
    bare = problem.edit(valid=None, goal=None)
    timed: list[float] = []
    run: Run | None = None
    for count in (_SHORT, long) if long > _SHORT else (long,):
        clock = Clock()
        quick = recipe.edit(steps=count, patience=None)
        run = fit(bare, quick, folder=False, progress=False, observe=0.0, on_probe=clock)
        if run.status == "interrupted":
            raise KeyboardInterrupt
        timed.append(clock.last - clock.first)
    per_step = (
        max((timed[-1] - timed[0]) / max(long - _SHORT, 1), 1e-5) if len(timed) > 1 else timed[0] / long
    )
    valid = 0.0
    if run is not None and isinstance(problem.valid_source, Memory):
        begun = time.monotonic()
        evaluate(problem, run.model("last"), problem.valid_source)
        valid = time.monotonic() - begun
    epochs = (steps or 0) / each if each else math.inf
    return Price(steps, per_step, valid, epochs if math.isfinite(epochs) else 0.0)


def _per_epoch(problem: Problem, recipe: Recipe) -> int | None:
    source = problem.train_source
    size = recipe.batch_size if isinstance(recipe.batch_size, int) else (source.size or 1)
    return source.steps(min(size, source.size) if source.size else size)
