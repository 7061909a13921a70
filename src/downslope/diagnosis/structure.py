"""Faults of the code that are certain by what was seen of it, whatever else is wrong; pure.

An output that is compared with every target, a model of which no step changes anything, gradients that are
never cleared: such a fault needs no trial, and no scale of the data is its cause.
Where nothing can be learnt because of it, what the scale costs cannot be told before it is mended.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from downslope.core.run import Run
from downslope.diagnosis.progress import bottom, progress
from downslope.diagnosis.proof import trial_of
from downslope.training.facts.aligned import difference

UNUSED = 0.75
"""Share of the backward passes whose gradient no step used, from which steps are missing. Convention; a pass
for each of two or three losses apart leaves up to 0.67 on purpose."""

ANSWER = 0.5
"""Share of the way from a constant guess to a perfect score that a trial of the start's scale must come to be
the answer beside a gradient that is cut off. Convention."""

_BARRED: Mapping[str, str] = {
    "objective-mismatch": "every output is compared with every target",
    "non-differentiable": "no gradient comes out of the objective",
    "frozen-parameters": "no step changed a parameter",
}


def structural(run: Run) -> set[str]:
    """Ids of the symptoms that `run` shows by its code alone: they stand before any scale of the data."""
    objective: Mapping[str, Any] = run.facts.get("objective") or {}
    flow: Mapping[str, Any] = run.facts.get("flow") or {}
    unused: Mapping[str, Any] = run.facts.get("unused") or {}
    found = {"stale-gradients"} | ({"too-few-steps"} if unused.get("share", 0.0) >= UNUSED else set[str]())
    if difference(objective) is not None or objective.get("crossed"):
        found.add("objective-mismatch")
    if not objective.get("gradient", 1.0):
        found.add("non-differentiable")
    if flow.get("watched") and flow["sure"]:
        found.add("frozen-parameters")
    return found


def severed(run: Run) -> bool:
    """Whether the gradient is cut off from modules that count, and no scale of the start is the answer.

    A scale is the answer where its trial came half the way from a constant guess to a perfect score: beside
    layers that learn nothing, what is left of a run wins a little by any start.
    """
    flow: Mapping[str, Any] = run.facts.get("flow") or {}
    if not any(each["why"] == "cut" for each in flow.get("held") or ()):
        return False
    trial, how, floor = trial_of(run, "init-scale") or {}, progress(run), bottom(run)
    loss = trial.get("loss")
    if loss is None or how.constant is None:
        return True
    return floor is not None and how.constant - loss < ANSWER * (how.constant - floor)


def barred(run: Run, symptom: str) -> str | None:
    """Why it cannot be told without a trial what `symptom` costs; None where nothing is in the way.

    Args:
        run: The run.
        symptom: Id of a symptom of the data's scale.
    """
    if trial_of(run, symptom) is not None:
        return None
    flow: Mapping[str, Any] = run.facts.get("flow") or {}
    partly = bool(flow.get("trained")) or "since" in flow
    certain = structural(run) - ({"frozen-parameters"} if partly else set[str]())
    why = next((words for name, words in _BARRED.items() if name in certain), None)
    return None if why is None else f"{why}: what the scale costs shows once that is mended"
