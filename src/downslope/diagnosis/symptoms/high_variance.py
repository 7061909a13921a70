"""High variance. The model knows its training data and does far worse on data that it has not seen.

The validation loss falls, turns, and rises while the training loss goes on falling: from the turn on the
model learns what is particular to its examples. What looks like it and is not: a gap within the standard
errors of small parts, a validation loss that rises because wrong answers get surer while no more of them are
wrong, and a gap at a level that is good enough. Source: Geman, Bienenstock and Doursat 1992; Prechelt 1998,
Early stopping - but when?
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from downslope.core.edits import Advice, Edit, SetAugment, SetRecipe
from downslope.core.finding import Evidence, Finding, Severity, Where
from downslope.core.run import Run
from downslope.diagnosis.gap import counted_error, gap, unmeasured
from downslope.diagnosis.progress import SHARES, SOLVED, bounded, progress
from downslope.diagnosis.proof import MATERIAL
from downslope.diagnosis.symptom import Clear, Unknown, Verdict, symptom

GAP = 0.15
"""Share of the way from constant to the training level that is missing on validation data."""

RISEN = 0.3
"""Share of the way that early stopping must keep for a warning: above the 0.2 that a trial needs, because a
best epoch is chosen after the event."""

WORTHLESS = 1.0
"""Share of the way lost from which the metric is not asked: by its loss the end is no better than a guess."""

FELL = 0.1
"""Share of the way by which a metric that counts examples must have fallen as well. Of 18 healthy runs on
noisy labels in none beyond its errors, of 8 that learnt wrong ones by heart in 7 (bench/diagnosis)."""

USELESS = 0.75
"""Share of the way that must be missing on validation data for a warning by itself: the model has learnt its
examples, and hardly more about others than a constant says."""

SURE = 3.0
"""The gap in its standard errors."""

_SHIFTED = 0.125
"""Share of a side by which images are shifted: He et al. 2016 move the 32 pixels of CIFAR-10 by 4."""

_SMALLEST = 8
"""Pixels of a side below which a shift takes too much away. Convention."""

_ERRORS = 2.0
"""Standard errors of the metric. Convention."""

_SOURCE = "Geman, Bienenstock and Doursat 1992; Prechelt 1998, Early stopping - but when?"


@symptom(
    "high-variance",
    title="overfitting",
    order=("generalisation", 1),
    needs=("ending",),
    explains=(),
    source=_SOURCE,
)
def high_variance(run: Run) -> Verdict:
    """Validation is worse than training by a material, significant gap, and stopping earlier was better."""
    ending: Mapping[str, Any] = run.facts["ending"]
    constant: Mapping[str, Any] = run.facts.get("constant") or {}
    if ending.get("valid_loss") is None or ending.get("train_loss") is None:
        return (
            Unknown("there is no validation data")
            if not ending.get("valid_n")
            else Unknown("the loss at the end is not finite")
        )
    if constant.get("valid_loss") is None:
        return Unknown("the best constant prediction is not known")
    if progress(run).standing:
        return Clear("the run did not learn its training data either")
    if (reason := unmeasured(run, ending)) is not None:
        return Unknown(reason)
    if (run.facts.get("output") or {}).get("over_batch"):
        return Unknown("what an example is given depends on its batch: no loss of another one compares")
    missing, sure = gap(run, ending, constant)
    risen, best = _risen(run, constant)
    said = _said(run, ending, constant, missing, sure)
    if missing < GAP or sure < SURE:
        return Clear(said)
    useless = missing >= USELESS or _goal_missed(run, ending)
    severity: Severity = "info"
    # Stopping early gives back no more than is missing: a loss that rises because a few wrong answers get
    # surer, while hardly any more of the answers are wrong, leaves little to win.
    lost = risen >= RISEN and missing >= MATERIAL and (risen >= WORTHLESS or _fell(run, ending, constant))
    if (lost or useless) and not _good_enough(run):
        severity = "warning"
    message = f"Of what was gained on the training data {said}."
    if USELESS <= missing <= 1:
        message += " What the model learnt is of next to no use on data that it has not seen."
    if risen >= RISEN:
        message += f" Stopping at step {best} instead of the end keeps {min(risen, 1.0):.0%} of the way."
    return Finding(
        symptom="high-variance",
        title="overfitting",
        severity=severity,
        where=Where(steps=(max(best, 1), max(int(ending.get("steps") or 1), best, 1))),
        evidence=Evidence(
            name="share of the way missing on validation data",
            value=missing,
            threshold=GAP,
            unit="share of the way from constant to the training level",
            provenance="convention; bench/diagnosis",
        ),
        also=_further(sure, risen),
        message=message,
        remedies=_remedies(run, risen, best),
        source=_SOURCE,
    )


def _said(
    run: Run, ending: Mapping[str, Any], constant: Mapping[str, Any], missing: float, sure: float
) -> str:
    """How much is missing; of a model that does worse there than a constant guess, that it does."""
    if missing <= 1:
        return (
            f"{max(missing, 0.0):.0%} of the way is missing on validation data ({sure:.1f} standard errors)"
        )
    scored = ending.get("train_metric"), ending.get("valid_metric"), constant.get("valid_metric")
    by = "metric" if bounded(run) and None not in scored else "loss"  # as the gap was measured
    there, guess = float(ending[f"valid_{by}"]), float(constant[f"valid_{by}"])
    name = run.metric_name if by == "metric" else by
    told = f"{name} {there:.4g} there, {guess:.4g} for a constant guess"
    return f"nothing is left on validation data: {told} ({sure:.1f} standard errors)"


def _further(sure: float, risen: float) -> tuple[Evidence, ...]:
    return (
        Evidence(
            name="gap in its standard errors",
            value=sure,
            threshold=SURE,
            unit="standard errors",
            provenance="convention: one false alarm in 700",
        ),
        Evidence(
            name="share of the way lost after the best epoch",
            value=risen,
            threshold=RISEN,
            unit="share",
            provenance="what early stopping recovers at the same budget",
        ),
    )


def _risen(run: Run, constant: Mapping[str, Any]) -> tuple[float, int]:
    """Share of the way by which the validation loss rose after its best epoch, and the step of that epoch."""
    sign = -1.0 if run.maximize else 1.0
    smooth, steps = _smooth(run, "valid_loss")
    smooth = sign * smooth
    if not len(smooth):
        return 0.0, int(steps[-1]) if len(steps) else 1
    best = int(smooth.argmin())
    way = sign * constant["valid_loss"] - float(smooth[best])
    rise = float(smooth[-1]) - float(smooth[best])
    return (rise / way if way > 0 else 0.0), int(steps[best + 1])


def _smooth(run: Run, column: str) -> tuple[np.ndarray, np.ndarray]:
    """Means over three epochs, so that a lucky one is no optimum, and the steps of all epochs."""
    series = run.history.series(column)
    keep = (series.steps > 0) & np.isfinite(series.values)
    values, steps = series.values[keep], series.steps[keep]
    return np.convolve(values, np.ones(3) / 3, mode="valid") if len(values) >= 3 else values[:0], steps


def _fell(run: Run, ending: Mapping[str, Any], constant: Mapping[str, Any]) -> bool:
    """Whether a metric that counts examples fell as well after its best epoch, beyond its errors.

    True where no such metric was followed: then the loss is all that is known.
    """
    base, count = constant.get("valid_metric"), ending.get("valid_n")
    means, _ = _smooth(run, "valid_metric")
    if run.metric_name not in SHARES or base is None or not count or not len(means):
        return True
    best, last = float(means.max()), float(means[-1])
    return best - last >= max(FELL * (best - base), _ERRORS * counted_error(last, count))


def _goal_missed(run: Run, ending: Mapping[str, Any]) -> bool:
    """Whether the goal is reached on the training data and missed on the validation data."""
    problem = run.problem
    if problem is None or problem.goal is None or problem.metric is None:
        return False
    best = ending.get("best_valid_metric")
    return best is not None and problem.reached(ending.get("train_metric")) and not problem.reached(best)


def _good_enough(run: Run) -> bool:
    """Whether the goal is reached on validation data, or the score is close to perfect there."""
    if not progress(run).solved:
        return False
    ending: Mapping[str, Any] = run.facts["ending"]
    if run.problem is not None and ending.get("best_valid_metric") is not None:
        return True
    # Without a score on validation data `solved` speaks of the training data.
    base, valid = (run.facts.get("constant") or {}).get("valid_loss"), ending.get("best_valid_loss")
    valid = ending["valid_loss"] if run.problem is None or valid is None else valid
    return base is not None and base > 0 and (base - valid) / base >= SOLVED


def _remedies(run: Run, risen: float, best: int) -> tuple[Edit, ...]:
    """Stopping where the validation loss turned, told by patience or by the length of the run; decay."""
    edits: list[Edit] = []
    recipe, steps = run.recipe, int(run.summary.get("steps") or 0)
    if risen >= RISEN and recipe is not None and recipe.epochs is not None and recipe.patience is None:
        edits.append(SetRecipe({"patience": max(3, recipe.epochs // 10)}))
    if risen >= RISEN and recipe is not None and recipe.epochs is not None and 0 < best < steps:
        turned = max(1, round(recipe.epochs * best / steps))
        edits.append(SetRecipe({"epochs": turned}, {"epochs": recipe.epochs}))
    if recipe is not None and not recipe.weight_decay:
        edits.append(SetRecipe({"weight_decay": 1e-2}, {"weight_decay": 0.0}))
    shift, other = _shift(run), "augmentation"
    if shift is not None:
        edits.append(shift)
        other = "other augmentation"
    edits.append(Advice(f"more training data, {other}, dropout, or a smaller model"))
    return tuple(edits)


def _shift(run: Run) -> Edit | None:
    """For images that nothing augments, shifts by an eighth of a side: they leave what most images show."""
    data: Mapping[str, Any] = run.facts.get("data") or {}
    shape: list[int] = data.get("shape") or []
    augmented = run.problem.augment if run.problem is not None else run.described.get("augment")
    if data.get("kind") != "image" or augmented is not None or min(shape[-2:]) < _SMALLEST:
        return None
    return SetAugment(f"shift({round(min(shape[-2:]) * _SHIFTED)})")
