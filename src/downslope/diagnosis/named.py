"""The objective of this package that stands for the user's own: aligned, averaged, stable."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from downslope.core.run import Run

_NAMES = {
    ("real", "MSELoss"): "mse", ("real", "mse_loss"): "mse", ("real", "L1Loss"): "mae",
    ("real", "l1_loss"): "mae", ("logits", "CrossEntropyLoss"): "cross_entropy",
    ("logits", "cross_entropy"): "cross_entropy", ("logit", "BCEWithLogitsLoss"): "logistic",
    ("logit", "binary_cross_entropy_with_logits"): "logistic", ("probability", "BCELoss"): "bernoulli",
    ("probability", "binary_cross_entropy"): "bernoulli",
}  # fmt: skip
_AGREEING = {
    "logits": "cross_entropy", "probabilities": "categorical", "logit": "logistic",
    "probability": "bernoulli",
}  # fmt: skip
"""What a function of the user's own agrees with (`measure.expects`), by what it expects of the output."""


def named(run: Run) -> str | None:
    """The name of our objective with the values of the run's own but for a constant factor; None if unknown.

    An objective with weights, smoothing or ignored classes of its own has none: a name would lose them.
    """
    output: Mapping[str, Any] = run.facts.get("output") or {}
    expects, name = output.get("expects") or "", output.get("objective") or ""
    objective = None if run.problem is None else run.problem.objective
    if any(_set(getattr(objective, key, None)) for key in ("weight", "pos_weight", "label_smoothing")):
        return None
    if getattr(objective, "ignore_index", -100) != -100:
        return None
    if (expects, name) in _NAMES:
        return _NAMES[expects, name]
    own = output.get("expects_target") is None and output.get("reduction") is None
    return _AGREEING.get(expects) if own else None


def _set(value: Any) -> bool:
    return isinstance(value, Tensor) or bool(value)
