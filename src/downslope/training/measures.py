"""What bias and variance are counted in: an error, lower is better, from the metric that one cares for."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from downslope.core.problem import Problem
from downslope.objectives.examples import examples
from downslope.objectives.metrics.accuracy import wrong
from downslope.objectives.metrics.mae import distances
from downslope.objectives.metrics.mse import squares

_PLAIN: dict[str, tuple[str, Callable[..., Tensor]]] = {
    "accuracy": ("error", wrong), "error": ("error", wrong), "balanced_accuracy": ("error", wrong),
    "f1": ("error", wrong), "auc": ("error", wrong), "mse": ("mse", squares), "rmse": ("mse", squares),
    "r2": ("mse", squares), "mae": ("mae", distances),
}  # fmt: skip
"""Metric to what it is counted in example by example."""


@dataclass(frozen=True)
class Measure:
    """An error of a model.

    Attributes:
        name: Such as "error" or "loss".
        column: "metric" or "loss", of the summary.
        turned: What a metric is taken from, so that lower is better; None where it is an error already.
        achievable: The error that the goal allows; None without one.
    """

    name: str
    column: Literal["metric", "loss"]
    turned: float | None
    achievable: float | None

    def of_summary(self, summary: Mapping[str, Any], part: str) -> float:
        """The error of a run; NaN where it is not known."""
        value = summary.get(f"{part}_{self.column}")
        if value is None:
            return math.nan
        return float(value) if self.turned is None else self.turned - float(value)

    def error_of(self, summary: Mapping[str, Any], part: str) -> float:
        """Its standard error; NaN where it is not known."""
        found = summary.get(f"{part}_{self.column}_stderr")
        return math.nan if found is None else float(found)


def measure_of(problem: Problem) -> Measure:
    """The error that the problem's metric means; without one that can be read so, its loss."""
    metric, name = problem.metric, str(getattr(problem.metric, "__name__", ""))
    if metric is None or problem.maximize:
        return Measure("loss", "loss", None, None)
    if problem.direction == "min":
        return Measure(name, "metric", None, problem.goal)
    most = float(getattr(metric, "bounds", (0.0, math.inf))[1])
    if not math.isfinite(most):
        return Measure("loss", "loss", None, None)
    said = "error" if name == "accuracy" else f"{most:g} - {name}"
    return Measure(said, "metric", most, None if problem.goal is None else most - problem.goal)


def rows_of(problem: Problem) -> tuple[str, Callable[[Any, Any], Tensor], float | None]:
    """What an error is called, what it is of every example (shape (n,)), and what of it the goal allows.

    By the metric where that is a mean over examples or has one beside it (errors beside an AUC, squares
    beside an R2, for which a goal says nothing); by the loss else.
    """
    name = str(getattr(problem.metric, "__name__", ""))
    known = _PLAIN.get(name)
    if known is None:
        return "loss", examples(problem.objective), None
    allowed = problem.goal
    if allowed is not None:
        allowed = {
            "accuracy": 1 - allowed, "balanced_accuracy": 1 - allowed, "rmse": allowed**2,
            "error": allowed, "mse": allowed, "mae": allowed,
        }.get(name)  # fmt: skip
    return known[0], known[1], allowed
