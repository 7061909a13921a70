"""A linear model on given features, fitted to the end by scikit-learn, in the form that a metric takes."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from downslope.core import names
from downslope.core.errors import DataError
from downslope.core.problem import Problem
from downslope.objectives import meaning

Scores = Callable[[Tensor], Tensor]

ITERATIONS = 1000
"""Of L-BFGS; standardised features with a penalty of 1e-3 need some dozens."""


@dataclass(frozen=True)
class Reader:
    """What a linear last layer has to tell, and how it is judged."""

    classes: bool
    """Whether targets are classes, or else numbers."""
    binary: bool
    """Whether one score an example tells yes from no."""
    per_step: bool
    """Whether every step of a sequence has a class."""
    metric: Callable[[Tensor, Tensor], float]
    """``(scores, target) -> float``."""
    metric_name: str
    """How it is called."""
    l2: float
    """Penalty ``l2 / 2 |w|^2`` beside the mean loss."""

    @classmethod
    def of(cls, problem: Problem, target: Tensor, l2: float) -> Reader:
        """What the problem's objective and the kind of its target say.

        Raises:
            DataError: several labels an example.
        """
        wanted = meaning(problem.objective).target
        whole = not target.is_floating_point()
        per_step = whole and target.dim() == 2 and target.shape[1] > 1 and wanted == "class"
        classes = wanted in ("class", "binary") or (wanted is None and whole)
        if classes and not per_step and target[0].numel() != 1:
            raise DataError(
                f"probe_layers: a target of shape {tuple(target.shape)} has several labels an example, and a "
                "probe tells one class; give a problem with one label"
            )
        metric: Any = problem.metric or names.resolve("metric", "accuracy" if classes else "r2")
        name = getattr(metric, "__name__", None) or type(metric).__name__
        return cls(classes, wanted == "binary", per_step, metric, name, l2)

    def rows(self, target: Tensor) -> Tensor:
        """The target with one row for each row of features: (n,), or (n, k) numbers."""
        if self.per_step or (target.dim() == 2 and target.shape[1] == 1):
            target = target.flatten()
        return target.long() if self.classes else target.float()

    def fit(self, features: Tensor, target: Tensor) -> Scores:
        """The linear model of least penalised loss on standardised features.

        Args:
            features: shape (n, d).
            target: as `rows` gives it.

        Returns:
            Features to scores: (n, C) for class indices, (n,) for yes and no, the target's shape for numbers.
        """
        x = features.double().numpy()
        mean, deviation = x.mean(0), x.std(0)
        deviation = np.where(deviation > 1e-12 * np.abs(mean).max(initial=1.0), deviation, np.inf)
        y = target.numpy()
        told = (
            self._classes((x - mean) / deviation, y)
            if self.classes
            else self._numbers((x - mean) / deviation, y)
        )

        def scores(given: Tensor) -> Tensor:
            return torch.from_numpy(told((given.double().numpy() - mean) / deviation))

        return scores

    def _numbers(self, x: Any, y: Any) -> Callable[[Any], Any]:
        from sklearn.linear_model import Ridge  # half a second, and only here

        # Ridge adds alpha |w|^2 to a sum of squares: twice the mean's half.
        return Ridge(alpha=self.l2 * len(x) / 2).fit(x, y.astype(np.float64)).predict

    def _classes(self, x: Any, y: Any) -> Callable[[Any], Any]:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression

        known = np.unique(y)
        if len(known) == 1:
            raise DataError(
                f"probe_layers: all sampled targets are {known[0]}: there is nothing to tell apart"
            )
        fitted: Any = LogisticRegression(C=1 / (self.l2 * len(x)), max_iter=ITERATIONS)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a thousand steps are near enough
            fitted.fit(x, y)

        def told(given: Any) -> Any:
            found = fitted.decision_function(given)
            if self.binary:
                return found
            if found.ndim == 1:
                found = found[:, None] * np.array([-0.5, 0.5])
            scores = np.full((len(found), int(known.max()) + 1), -np.inf)
            scores[:, known] = found
            return scores

        return told
