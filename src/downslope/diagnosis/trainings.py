"""What a script trained beside what is judged of it: other trainings, and other optimizers of one loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from downslope.core.finding import Finding
from downslope.core.numerals import many
from downslope.diagnosis.diagnosis import Diagnosis
from downslope.diagnosis.role import Role

AS_MANY = 0.9
"""Steps of a training whose loss left the finite numbers, in those of the longest, from which it is judged
before any other. A search for a rate, which ends in NaN on purpose, is far shorter than the training."""


class Training(NamedTuple):
    """One training in a script."""

    began: int
    """Its first step, counted over all optimizers."""
    ended: int
    """Its latest."""
    name: str
    """Optimizer and models."""
    rate: str
    """The rate that it was made with, as "lr 0.1"."""
    steps: int
    lost: bool
    """Whether its loss left the finite numbers for good."""

    @classmethod
    def of(cls, role: Role) -> Training:
        """What `role` trains."""
        return cls(*role.span, role.name, role.rate, role.track.step, role.lost)

    @property
    def called(self) -> str:
        """Its name, told apart by the rate."""
        return f"{self.name}, {self.rate}" if self.rate else self.name


def ranked(roles: Sequence[Role]) -> list[Role]:
    """Those with most steps first; before them, of about as many steps, those that ended in no number."""
    most = max((role.track.step for role in roles), default=0)
    return sorted(roles, key=lambda r: (not (r.lost and r.track.step >= AS_MANY * most), -r.track.step))


def tell(found: Diagnosis, judged: Role, others: Sequence[Training]) -> None:
    """Say in `found` what else the script trained, and which optimizer a finding about a rate is of.

    Args:
        found: Gets rows of what is not judged, a note and the fact ``trainings`` where there are any.
        judged: The optimizer that was judged.
        others: The other ones, but for those that train by its loss.
    """
    own = Training.of(judged)
    beside = [each for each in others if each.began < own.ended and each.ended > own.began]
    apart = [each for each in others if each not in beside]
    for each in beside:
        reason = f"{many(each.steps, 'step')}; the optimizer with most steps is judged, {own.name}"
        found.not_checked.append((each.name, reason))
    if apart:
        _apart(found, own, apart)
    _name_rates(found)


def _apart(found: Diagnosis, own: Training, apart: Sequence[Training]) -> None:
    order = sorted([own, *apart])
    count, number = len(order), order.index(own) + 1
    most = "the first of those with most steps" if any(e.steps == own.steps for e in apart) else "the longest"
    why = "whose loss left the finite numbers" if own.lost else most
    for i, each in enumerate(order):
        if each is not own:
            ended = ", and its loss left the finite numbers" if each.lost else ""
            reason = f"{many(each.steps, 'step')}{ended}; training {number} is judged, {why}"
            found.not_checked.append((f"{each.called} (training {i + 1} of {count})", reason))
    lost = [f"training {order.index(each) + 1} ({each.called})" for each in apart if each.lost]
    said = f"1 of {count} trainings judged: number {number}, {own.called}, {why}."
    if lost:
        said += (
            f" The loss of {_listed(lost)} left the finite numbers too."
            if own.lost
            else (f" The loss of {_listed(lost)} left the finite numbers.")
        )
    found.notes.append(said)
    found.run.facts["trainings"] = {"judged": number, "of": count, "lost": len(lost)}


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
