"""The gap between training and held-out data: as a share of what was gained, and in its standard errors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from downslope.core.run import Run
from downslope.diagnosis.progress import bounded, progress

WELL = 0.8
"""Share of the way to a perfect score on held-out data that counts as done well. Convention."""


def gap(run: Run, ending: Mapping[str, Any], constant: Mapping[str, Any]) -> tuple[float, float]:
    """Gap as a share of the way, and in standard errors; by a metric that is a share, else by the loss.

    Args:
        run: Finished.
        ending: ``facts["ending"]``, with both parts scored.
        constant: ``facts["constant"]``, likewise.
    """
    metric = ending.get("valid_metric"), ending.get("train_metric"), constant.get("valid_metric")
    if bounded(run) and all(each is not None for each in metric):
        valid, train, base = (float(each) for each in metric if each is not None)
        way = train - base
        error = counted_error(valid, ending["valid_n"])
        gap = train - valid
        if run.metric_name == "r2":
            error = _loss_error(ending) / max(abs(constant["valid_loss"]), 1e-12)
    else:
        sign = -1.0 if run.maximize else 1.0
        way = sign * (constant["valid_loss"] - ending["train_loss"])
        gap = sign * (ending["valid_loss"] - ending["train_loss"])
        error = _loss_error(ending)
    return (gap / way if way > 0 else 0.0), (gap / error if error > 0 else 0.0)


def counted_error(share: float, count: int) -> float:
    """Standard error of a share of `count` examples; of none and of all of them that of half an example."""
    return math.sqrt(max(share * (1 - share), 0.25 / count) / count)


def unmeasured(run: Run, ending: Mapping[str, Any]) -> str | None:
    """Why `ending` does not tell the gap at the end, such as one read off a summary; None if it does."""
    if ending.get("scored_step") not in (None, ending.get("steps")):
        why = (run.facts.get("not_measured") or {}).get("ending", "give the run's problem")
        return f"the model of the last step was not scored; {why}"
    counted = bounded(run) and run.metric_name != "r2" and ending.get("train_metric") is not None
    if counted or ending.get("train_stderr") is not None or ending.get("valid_stderr") is not None:
        return None
    return "the spread of the losses over the examples is not in the record; give the run's problem"


def _loss_error(ending: Mapping[str, Any]) -> float:
    parts = [ending.get("train_stderr") or 0.0, ending.get("valid_stderr") or 0.0]
    return math.hypot(*parts)


def held_out_error(run: Run) -> float:
    """Standard error of a guess's score on the validation data, as a share of the way to a perfect one."""
    constant: Mapping[str, Any] = run.facts.get("constant") or {}
    ending: Mapping[str, Any] = run.facts.get("ending") or {}
    count = ending.get("valid_n")
    name = run.metric_name
    if (
        count
        and name in ("accuracy", "balanced_accuracy", "f1", "auc")
        and constant.get("valid_metric") is not None
    ):
        base = min(max(float(constant["valid_metric"]), 0.5 / count), 1 - 0.5 / count)
        return math.sqrt(base * (1 - base) / count) / (1 - base)
    error = ending.get("valid_stderr")
    return 0.0 if not error else float(error) / max(abs(constant.get("valid_loss") or 1.0), 1e-12)


def held_out_share(run: Run, *, alone: bool = False, by_loss: bool = False) -> float | None:
    """The most of the way to a perfect score on held-out data, by the run and all that was tried beside it.

    Args:
        run: Finished.
        alone: Whether only the run itself counts.
        by_loss: Whether the loss counts even where there is such a metric.

    By a metric that is a share, else by a loss with the floor 0; without validation data by the training
    loss, where nothing that was compared learnt anything, or the run of a loop did not, beside which nothing
    can be tried. None where it is not known.
    """
    constant: Mapping[str, Any] = run.facts.get("constant") or {}
    ending: Mapping[str, Any] = run.facts.get("ending") or {}
    tried: Mapping[str, Mapping[str, Any]] = run.facts.get("trials") or {}
    beside: list[Mapping[str, Any]] = [*(run.facts.get("references") or ()), *tried.values()]
    beside = [] if alone else beside
    if bounded(run) and constant.get("valid_metric") is not None and not by_loss:
        base = float(constant["valid_metric"])
        seen: list[Any] = [ending.get("best_valid_metric"), *(each.get("valid_metric") for each in beside)]
        known = [(float(each) - base) / max(1.0 - base, 1e-12) for each in seen if each is not None]
    elif constant.get("valid_loss") is not None:
        base = float(constant["valid_loss"])
        seen = [ending.get("best_valid_loss"), *(each.get("valid_loss") for each in beside)]
        known = [(base - float(each)) / max(abs(base), 1e-12) for each in seen if each is not None]
    else:
        how, watched = progress(run), (run.facts.get("signal") or {}).get("watched")
        return 0.0 if how.futile or (watched and how.standing) else None
    return max(known) if known else None
