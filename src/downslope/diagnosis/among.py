"""What is said of the trainings beside the one that is told of, and of several optimizers of one loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from downslope.core.finding import Finding
from downslope.core.numerals import many
from downslope.diagnosis.diagnosis import Diagnosis
from downslope.diagnosis.several import Candidate, Several, Verdict


def tell(several: Several) -> Diagnosis:
    """The diagnosis of the training that is told of, with what is to be said of the others.

    Returns:
        Its own, with rows of what is not judged, notes and the fact ``trainings`` where there are others.
    """
    found, own = several.told.found, several.told.candidate.training
    for each in several.beside:
        reason = f"{many(each.training.steps, 'step')}; the optimizer with most steps is judged, {own.name}"
        found.not_checked.append((each.training.name, reason))
    if len(several.apart) > 1:
        _apart(found, several)
    _name_rates(found)
    return found


def _apart(found: Diagnosis, several: Several) -> None:
    order = several.apart
    number = {id(each): i for i, each in enumerate(order, start=1)}
    told = several.told.candidate
    seen = [each.candidate for each in several.judged if id(each.candidate) in number]
    left = [each for each in order if not any(each is one for one in seen)]
    for each in left:
        ended = ", and its loss left the finite numbers" if each.training.lost else ""
        reason = f"{many(each.training.steps, 'step')}{ended}; {_why_left(each, seen)}"
        place = f"(training {number[id(each)]} of {len(order)})"
        found.not_checked.append((f"{each.training.called} {place}", reason))
    found.notes.append(
        f"{len(seen)} of {len(order)} trainings judged; told of is number {number[id(told)]}, "
        f"{told.training.called}, {_which(several)}."
    )
    others = _sick([each for each in several.alarms if each is not several.told], number)
    if others:
        found.notes.append(f"Something is wrong with {_listed(others)} too.")
    if several.excused:
        words = _listed(_sick(several.excused, number))
        found.notes.append(f"No alarm, in a search that found better, is what went wrong with {words}.")
    lost = [f"training {number[id(each)]} ({each.training.called})" for each in left if each.training.lost]
    if lost:
        too = " too" if told.training.lost else ""
        found.notes.append(f"The loss of {_listed(lost)} left the finite numbers{too}.")
    found.run.facts["trainings"] = {
        "judged": number[id(told)], "of": len(order), "lost": len(lost), "open": len(left),
        "excused": len(several.excused),
    }  # fmt: skip


def _why_left(each: Candidate, seen: Sequence[Candidate]) -> str:
    goes_on = any(each.same_model(one) for one in seen)
    return "another training of its model is judged" if goes_on else "it was short, or had to make room"


def _which(several: Several) -> str:
    """Why it is this one."""
    own = several.told.candidate.training
    if several.alarms:
        return "the only one with something wrong" if len(several.alarms) == 1 else "the worst"
    if several.excused:
        return "the best of a search"
    same = sum(each.training.steps == own.steps for each in several.apart) > 1
    return "the first of those with most steps" if same else "the longest"


def _sick(verdicts: Sequence[Verdict], number: Mapping[int, int]) -> list[str]:
    """Each with its number, in order of time."""
    rows = [(number[id(each.candidate)], each) for each in verdicts if id(each.candidate) in number]
    rows.sort(key=lambda row: row[0])
    return [f"training {at} ({each.candidate.training.called}: {each.why})" for at, each in rows]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


_OF_RATES = ("learning-rate-too-high", "learning-rate-too-low")


def _name_rates(found: Diagnosis) -> None:
    """Of several optimizers of one loss: whose rate a finding is about."""
    facts = found.run.facts
    rows: Sequence[Mapping[str, Any]] = facts.get("optimizers") or ()
    if not rows:
        return
    called = [f"{row['name']}{_rate(row)} on {row['on']}" for row in rows]
    if "culprit" in facts and facts["culprit"] is None:
        which = f"Which of the {len(rows)} optimizers of this loss threw the weights first is not known"
        found.notes.append(f"{which}: {_listed(called)}.")
        return
    index = facts.get("culprit") or 0
    whose = f"It is that of {called[index]}, number {index + 1} of {len(rows)} optimizers of this loss"
    whose += ", which threw its weights first." if "culprit" in facts else "."
    found.findings = [_with(each, whose) for each in found.findings]


def _with(finding: Finding, whose: str) -> Finding:
    below = tuple(_with(each, whose) for each in finding.consequences)
    if finding.symptom not in _OF_RATES:
        return replace(finding, consequences=below)
    return replace(finding, message=f"{finding.message} {whose}", consequences=below)


def _rate(row: Mapping[str, Any]) -> str:
    used = row.get("used") or ()
    return f" lr {max(used):.3g}" if used else ""
