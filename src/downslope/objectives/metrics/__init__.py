"""Metrics: ``(output, target) -> float``, with a `goal`; what one cares for, differentiable or not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from downslope.core.faces import lazily

if TYPE_CHECKING:
    from downslope.objectives.metrics.accuracy import accuracy, error
    from downslope.objectives.metrics.auc import auc
    from downslope.objectives.metrics.balanced_accuracy import balanced_accuracy
    from downslope.objectives.metrics.by_task import ByTask, by_task
    from downslope.objectives.metrics.f1 import f1
    from downslope.objectives.metrics.mae import mae
    from downslope.objectives.metrics.metric import metric
    from downslope.objectives.metrics.mse import mse, rmse
    from downslope.objectives.metrics.r2 import r2

__all__ = [
    "ByTask",
    "accuracy",
    "auc",
    "balanced_accuracy",
    "by_task",
    "error",
    "f1",
    "mae",
    "metric",
    "mse",
    "r2",
    "rmse",
]

lazily(
    __name__,
    {
        "accuracy": "accuracy error",
        "auc": "auc",
        "balanced_accuracy": "balanced_accuracy",
        "by_task": "ByTask by_task",
        "f1": "f1",
        "mae": "mae",
        "metric": "metric",
        "mse": "mse rmse",
        "r2": "r2",
    },
)
