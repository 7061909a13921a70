"""What a paired trial says of a suspicion: the rule by which severity is a claim that can be tested.

``facts["trials"]`` holds, by symptom, the trial of its first remedy from the same seed and the same number
of steps. While that table is there and a symptom is not in it, the symptom is a suspicion that can still be
tried.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from downslope.core.edits import Combined, Edit, StandardiseInputs, StandardiseTargets
from downslope.core.finding import Evidence, Severity
from downslope.core.run import Run
from downslope.diagnosis.progress import progress

MATERIAL = 0.2
"""A warning claims that its first remedy recovers this share of the way from constant to reachable."""

BLUNDER = 0.05
"""The same for what is plainly a slip in the code (a softmax before a cross-entropy)."""

CUT = 0.5
"""The same where the budget cut the run short: a slow start is then no fault yet."""

CERTAIN = 0.8
"""A cause whose remedy recovers this share of the way is the answer; no later one is tried. Convention."""

LEAST = 0.005
"""Share of the way that rounds to 1 %: less is told as nothing."""

TOGETHER = Combined((StandardiseInputs(), StandardiseTargets()))
"""The remedy of inputs and targets that are both out of scale: one hides the other."""

_CLAIM = "convention: what a remedy must win back to be worth a warning; bench/diagnosis"


def not_tried(run: Run) -> str:
    """Why a suspicion was not put to a trial."""
    if not trying(run):
        return "only a trial would tell, and this run was only looked at"
    return "not tried: an earlier cause explains the run" if answered(run) else "not tried: no time was left"


def trial_of(run: Run, symptom: str) -> Mapping[str, Any] | None:
    """The paired trial of this symptom's remedy; None if there was none."""
    return (run.facts.get("trials") or {}).get(symptom)


def as_tried(run: Run, symptom: str, remedies: tuple[Edit, ...]) -> tuple[Edit, ...]:
    """The remedies with what the trial proved in front: where that was of two causes, both of theirs.

    What a trial did not confirm comes last.
    """
    trial = trial_of(run, symptom)
    if trial is None:
        return remedies
    if unconfirmed(trial):
        return tuple(sorted(remedies, key=lambda each: str(each) == trial["edit"]))
    if not trial.get("together"):
        return remedies
    return (TOGETHER, *(each for each in remedies if not each.provable))


def trying(run: Run) -> bool:
    """Whether suspicions of this run can be put to a trial."""
    return run.facts.get("trials") is not None


def answered(run: Run, beside: str | None = None) -> bool:
    """Whether one cause, `beside` left out, already gives back most of the way."""
    trials: Mapping[str, Mapping[str, Any]] = run.facts.get("trials") or {}
    return any(gain(each) >= CERTAIN for name, each in trials.items() if name != beside)


def gain(trial: Mapping[str, Any]) -> float:
    """What a trial recovered: by the training loss, held down by what it recovered on validation.

    A remedy that only memorises faster gains nothing that a user reads: twice the gain on validation is
    the most that counts.
    """
    share = float(trial.get("share") or 0.0)
    valid = trial.get("valid_share")
    return share if valid is None else min(share, 2.0 * float(valid))


def settle(run: Run, symptom: str, strong: bool, material: float = MATERIAL) -> Severity | None:
    """The severity that the evidence supports; None where a trial refuted the suspicion.

    Args:
        run: The run.
        symptom: Id.
        strong: Whether the evidence alone, without a trial, is enough for a warning.
        material: The share that the trial has to recover.
    """
    trial = trial_of(run, symptom)
    how = progress(run)
    if trial is None:
        worst: Severity = "critical" if how.standing else "warning"
        return worst if strong else "info"
    recovered = gain(trial)
    if run.facts.get("truncated"):
        material = max(material, CUT)
    if not math.isfinite(recovered) or recovered < material:
        return None
    return "critical" if how.standing else "warning"


def proved(run: Run, symptom: str, material: float = MATERIAL) -> tuple[Evidence, ...]:
    """The trial as evidence, where there was one."""
    trial = trial_of(run, symptom)
    if trial is None:
        return ()
    name = f"share of the way that {trial['edit']} recovers in {trial['steps']} steps"
    return (Evidence(name=name, value=gain(trial), threshold=material, unit="share", provenance=_CLAIM),)


def unconfirmed(trial: Mapping[str, Any]) -> bool:
    """Whether a trial recovered next to nothing, less than even a slip in the code must."""
    return not gain(trial) >= BLUNDER


def won(trial: Mapping[str, Any]) -> str:
    """What a trial recovered, in words: no share is below nothing or beyond all."""
    share = gain(trial)
    if not share >= LEAST:
        return "recovers nothing"
    return f"recovers {min(share, 1.0):.0%} of the way"


def refuted(run: Run, symptom: str) -> str:
    """Why a trial cleared the suspicion, in words."""
    trial = trial_of(run, symptom)
    if trial is None:
        return "not tried"
    return f"tried: {trial['edit']} {won(trial)}, too little to matter"


def tried(run: Run, symptom: str) -> str:
    """A half sentence on the trial; empty without one."""
    trial = trial_of(run, symptom)
    if trial is None:
        return " Not tried." if trying(run) else ""
    if trial.get("error"):
        return f" Tried: {trial['edit']} does not fit ({trial['error']})."
    if unconfirmed(trial):
        return f" Tried and not confirmed: {trial['edit']} {won(trial)}."
    return f" Tried: {trial['edit']} {won(trial)} to what is reachable."
