"""The diagnosis: findings with the root cause first, what was cleared, what could not be checked."""

from __future__ import annotations

import json
import shutil
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from downslope.core.finding import Finding
from downslope.core.plain import plain
from downslope.core.run import Run
from downslope.diagnosis import counted
from downslope.diagnosis.early import inflated, little, short
from downslope.diagnosis.partly import partly
from downslope.diagnosis.progress import progress
from downslope.diagnosis.spent import unmeasured
from downslope.diagnosis.symptom import registry
from downslope.diagnosis.unjudged import halted, unheard, unknown

_WELL = "none of the symptoms that could be checked holds"


@dataclass(kw_only=True, eq=False)
class Diagnosis:
    """What is wrong with a run, root cause first.

    Attributes:
        findings: Root causes, each with its consequences; the worst and earliest cause first.
        cleared: Symptoms that do not hold, with the number that says so.
        not_checked: Symptoms that could not be asked, with the reason.
        run: The run that was judged.
        verdict: One line on how far the run came.
        seconds: What the diagnosis took, the run included.
        notes: Decisions of the diagnosis that a reader must know (a run cut short, trials left out).
        interrupted: Where Ctrl-C ended it, such as "interrupted after 23 of 400 steps"; "" where it did not.
            What was found by then is told, and what was not judged by then stands under `not_checked`.
    """

    run: Run
    findings: list[Finding] = field(default_factory=list[Finding])
    cleared: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    not_checked: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    verdict: str = ""
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list[str])
    interrupted: str = ""

    @property
    def healthy(self) -> bool:
        """Whether no finding is a warning or worse, and the run did learn something.

        A run that stands still, left the finite numbers, was ended by an error, or of which nothing could be
        judged is not healthy, even if no cause was found; nor is one that ended far from what others reach
        and of which the budget left no time to say why, nor one whose diagnosis was interrupted, unless the
        run had come to its end by then, and is solved.
        """
        stopped = self.run.status == "failed" or self._stopped or self.blind or self._broken_off
        stopped = stopped or unknown(self.run)
        return not self.lost and not stopped and all(each.severity == "info" for each in self.findings)

    @property
    def _stopped(self) -> bool:
        """Whether Ctrl-C ended a watched script."""
        return self.run.status == "interrupted" and "script" in self.run.facts

    @property
    def _broken_off(self) -> bool:
        ended = self.run.status in ("done", "goal", "early-stopped", "converged")
        return bool(self.interrupted) and not (ended and progress(self.run).solved)

    @property
    def blind(self) -> bool:
        """Whether nothing of the training itself could be judged: neither model nor step nor ending."""
        if unheard(self.run):
            return True
        known = registry()
        judged = [*(name for name, _ in self.cleared), *self.symptoms]
        return bool(self.not_checked) and not any(
            name in known and known[name].order[0] in ("model", "step", "generalisation") for name in judged
        )

    @property
    def lost(self) -> bool:
        """Whether the run ended no better than a constant guess, or left the finite numbers."""
        standing = progress(self.run).standing
        return standing and not short(self.run) and not little(self.run) and not halted(self.run)

    @property
    def reserve(self) -> str:
        """Why a run without findings is not called healthy.

        It was ended by an error, its diagnosis was interrupted, it hardly began, ended far from what others
        reach, learnt so little that nothing can be told, fell from a first loss that inputs or weights out of
        scale made, was not seen, or is only a part of what a script trained.
        """
        if self.run.status == "failed":
            return "nothing wrong was seen in the training until it stopped"
        if self._stopped:
            return "nothing wrong was seen in the training until it was interrupted"
        if self._broken_off:
            return f"{self.interrupted}: nothing wrong was seen by then, which is not the whole"
        if unheard(self.run):
            return "no loss was handed over: whether anything was learnt is not known"
        if self.blind:
            return "nothing of the training could be judged"
        if progress(self.run).standing and little(self.run):
            return "nothing wrong was seen, but little was learnt: only trials tell whether there is more"
        if short(self.run):
            return "nothing wrong was seen so far; the run is too short to tell"
        if inflated(self.run) and not progress(self.run).ended_far:
            return "nothing wrong was seen in what could be judged; whether anything was learnt is not known"
        if unknown(self.run):
            return (
                "something that was compared came much further, and the time ended before its causes could "
                'be tried: why is not known (a budget in steps, such as "1000 steps", leaves none out)'
            )
        if self.root is None and unmeasured(self.run) is not None:
            return "no fault is certain, but the schedule took the rate away while the loss still fell"
        how = progress(self.run)
        if self.root is None and (how.share is None or how.ended_far) and _mostly_fixed(self.findings):
            return "no fault is certain, but most of the model never changes, and it has not come far"
        if self.healthy and self.verdict.startswith("ENDED FAR"):
            return "no cause was found, though something that was compared came further"
        if how.futile and self.root is None and not self.lost:
            return "nothing wrong was seen; the run is too short, or the data has little to learn"
        return partly(self.run, [*(name for name, _ in self.cleared), *self.symptoms])

    @property
    def root(self) -> Finding | None:
        """The first root cause that is a warning or worse; None for a healthy run."""
        return next((each for each in self.findings if each.severity != "info"), None)

    @property
    def symptoms(self) -> list[str]:
        """Ids of all findings, root causes first, their consequences after them."""
        return [each.symptom for each in _walk(self.findings)]

    def to_dict(self) -> dict[str, Any]:
        """Plain values only: ready for JSON."""
        return {
            "healthy": self.healthy,
            "verdict": self.verdict,
            "findings": [each.to_dict() for each in self.findings],
            "cleared": [{"symptom": name, "evidence": text} for name, text in self.cleared],
            "not_checked": [{"symptom": name, "reason": text} for name, text in self.not_checked],
            "notes": list(self.notes),
            "interrupted": self.interrupted or None,
            "seconds": plain(self.seconds),
            "run": None if self.run.folder is None else str(self.run.folder),
            "summary": plain(self.run.summary),
            "status": self.run.status,
        }

    def to_json(self, indent: int | None = 2) -> str:
        """The diagnosis as JSON; a number that is not finite is null."""
        return json.dumps(self.to_dict(), indent=indent, allow_nan=False)

    def __str__(self) -> str:
        lines = [self.verdict] if self.verdict else []
        serious = [each for each in self.findings if each.severity != "info"]
        if not serious and self.reserve:
            lines.append(self.reserve[:1].upper() + self.reserve[1:] + ".")
        elif not serious and not self.healthy:
            lines.append("No cause found: none of the symptoms that could be checked holds.")
        elif not serious:
            lines.append(f"Healthy: {_WELL if not self.findings else 'nothing to fix'}.")
        for finding in serious:
            lines += _told(finding)
        lines += [
            f"info: {each.symptom}: {each.message}" for each in self.findings if each.severity == "info"
        ]
        if clear := counted.clear(self.cleared, self.not_checked, self.symptoms):
            lines.append(f"Clear: {clear}.")
        if open_ := self.open_to(".not_checked says why"):
            lines.append(f"Open: {open_}.")
        return "\n".join(map(_wrapped, [*lines, *self.notes]))

    def open_to(self, more: str) -> str:
        """What could not be judged, in one line; `more` is where the reasons stand."""
        judged = len({*dict(self.cleared), *self.symptoms})
        watched = self.healthy and self.run.recipe is None
        return counted.briefly(self.not_checked, judged, more, watched=watched)

    def __repr__(self) -> str:
        state = "healthy" if self.healthy else ", ".join(f.symptom for f in self.findings) or "no cause found"
        return f"Diagnosis({state})"


def _mostly_fixed(findings: Iterable[Finding]) -> bool:
    """Whether more than half of the parameters that count were never changed."""
    return any(each.symptom == "frozen-parameters" and each.evidence.value > 0.5 for each in findings)


def _told(finding: Finding) -> list[str]:
    lines = [f"Cause: {finding.symptom} [{finding.severity}], {finding.where}. {finding.message}"]
    if finding.consequences:
        lines.append(f"It explains {', '.join(each.symptom for each in finding.consequences)}.")
    if finding.remedies:
        edit = finding.remedies[0]
        lines.append(f"Do: {edit}{f' ({edit.meaning})' if edit.meaning else ''}.")
    return lines


def _wrapped(line: str) -> str:
    """A line broken at the width of the terminal, or of 100 columns where there is none."""
    width = max(shutil.get_terminal_size((100, 24)).columns, 32)
    return textwrap.fill(
        line, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )  # fmt: skip


def _walk(findings: list[Finding] | tuple[Finding, ...]) -> Iterator[Finding]:
    for each in findings:
        yield each
    for each in findings:
        yield from _walk(each.consequences)
