"""What a race is judged by: the validation metric, the validation loss, for want of both the training's."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, cast

from downslope.core.problem import Problem
from downslope.core.run import Run

Column = Literal["valid_metric", "valid_loss", "train_loss"]


@dataclass(frozen=True)
class Measure:
    """What a level is.

    Attributes:
        column: Of the summary and the history.
        name: Such as "accuracy" or "loss".
        up: Whether higher is better.
        bounds: What a level can be.
    """

    column: Column
    name: str
    up: bool
    bounds: tuple[float, float] = (-math.inf, math.inf)

    def cost(self, level: float) -> float:
        """The level as a cost: lower is better, infinite where it is not a finite number."""
        if not math.isfinite(level):
            return math.inf
        return -level if self.up else level

    def level(self, cost: float) -> float:
        """The level that a finite `cost` stands for."""
        return -cost if self.up else cost

    def reached(self, level: float, target: float) -> bool:
        """Whether `level` is at `target` or beyond it."""
        return level >= target if self.up else level <= target

    def of(self, run: Run) -> float:
        """The final level of a run: that of the model which it hands out; NaN where it has none."""
        if run.status in ("diverged", "failed"):
            return math.nan
        found = run.summary.get(self.column)
        return math.nan if found is None else float(found)

    def curve(self, run: Run) -> tuple[tuple[int, ...], tuple[float, ...]]:
        """Steps and levels of its evaluations; of training losses the means over epochs."""
        column = "train_epoch_loss" if self.column == "train_loss" else self.column
        series = run.history.series(column)
        return tuple(series.steps.tolist()), tuple(series.values.tolist())

    def __str__(self) -> str:
        part, _, _ = self.column.partition("_")
        return f"{'validation' if part == 'valid' else 'training'} {self.name}"


def measure_of(problem: Problem) -> Measure:
    """What a race on `problem` is judged by."""
    if problem.valid_source is None:
        return Measure("train_loss", "loss", problem.maximize)
    if problem.metric is None:
        return Measure("valid_loss", "loss", problem.maximize)
    name = str(getattr(problem.metric, "__name__", "metric"))
    least, most = cast("tuple[float, float]", getattr(problem.metric, "bounds", (-math.inf, math.inf)))
    return Measure("valid_metric", name, problem.direction == "max", (float(least), float(most)))
