"""Which suspicion is tried next: causes before what follows from them, short trials where time is scarce."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from downslope.core.edits import Edit, SetRecipe
from downslope.core.finding import Finding
from downslope.diagnosis.judge import judge
from downslope.diagnosis.measure import ground, noise, rates, wall
from downslope.diagnosis.progress import table
from downslope.diagnosis.proof import MATERIAL, TOGETHER, answered, gain
from downslope.diagnosis.session import Session
from downslope.diagnosis.stood import leaves_the_guess, stood
from downslope.diagnosis.swing import LEAP, leap
from downslope.diagnosis.symptom import rank_of, registry


class Turns(Session):
    """A session that tries one suspicion after another until one is the answer."""

    def _try_all(self) -> None:
        """Suspicions in their turn; the learning rate is looked at before what follows from the step."""
        tried: set[str] = set(self.run.facts["trials"])
        again = False
        rate = registry()["learning-rate-too-high"].rank
        for _ in range(2 * len(registry()) + 1):
            if answered(self.run):
                return
            if not again and "rates" in self.run.facts:  # what a short trial did not settle
                again, tried = True, tried - self.put_off
            suspects = self._in_turn(_provable(judge(self.run).findings, tried))
            if len(both := self._both(tried)) > 1:
                self._try_together(both)
                self.together = True
                continue
            late = not suspects or rank_of(suspects[0]) >= rate
            if "rates" not in self.run.facts and late:
                self._rates()
            elif late and not self.surveyed:
                self._survey()
            elif suspects:
                tried.add(suspects[0].symptom)
                self._try(suspects[0])
            else:
                return

    def _survey(self) -> None:
        """The ground where the run ended, and the noise of its gradient: what the step's symptoms need."""
        self.surveyed, run = True, self.run
        self._wall()
        if run.status == "diverged":
            return
        self._say("slope, curvature and noise at the end")
        self._record("ground", lambda: ground.measure(run, self.problem))
        self._record("noise", lambda: noise.measure(run, self.problem, self.recipe))

    def _wall(self) -> None:
        """Where one step threw the loss up for good: that step once more, if it leaves time for trials."""
        found = leap(self.run)
        if found is None or not found.lasts or found.times < LEAP:
            return
        share = min(found.step / max(self._full(), 1), 1.0)
        if self._cost(share) <= 0.25 * (self.limit - time.monotonic()):
            self._say(f"step {found.step}, which threw the loss up")
            self._record("wall", lambda: wall.measure(self.run, self.problem, self._recipe()))

    def _both(self, tried: set[str]) -> list[Finding]:
        """Inputs and targets that are both out of scale, once each was tried alone: one may hide the
        other.
        """
        if self.together or not {"unscaled-inputs", "unscaled-targets"} <= tried:
            return []
        trials = self.run.facts["trials"]
        kept = {name: trials.pop(name) for name in ("unscaled-inputs", "unscaled-targets") if name in trials}
        found = [f for f in flat(judge(self.run).findings) if f.symptom in kept]
        trials.update(kept)
        return found

    def _try_together(self, findings: list[Finding]) -> None:
        """One trial of both remedies; where it does more than either alone, both are to blame."""
        trials = self.run.facts["trials"]
        alone = max(gain(trials[f.symptom]) for f in findings if f.symptom in trials)
        found = self._trial(TOGETHER)
        if found is not None and gain(found) > alone + MATERIAL:
            trials.update({f.symptom: found | {"together": True} for f in findings})

    def _try(self, finding: Finding) -> None:
        # What is certain enough for a warning by itself waits for no rates.
        weak = finding.severity == "info" and "rates" not in self.run.facts
        found = self._as_rate(finding.remedies[0]) or self._trial(finding.remedies[0], brief=weak)
        if found is not None and found.get("brief"):
            self.put_off.add(finding.symptom)
        elif found is not None:
            self.run.facts["trials"][finding.symptom] = found

    def _as_rate(self, edit: Edit) -> dict[str, Any] | None:
        """The short trial of a rate that was made already, where it is proof enough and time is scarce."""
        known = table(self.run, "rates")
        rows: Sequence[tuple[float, Any]] = known.get("tried") or ()
        scores: Sequence[Mapping[str, Any]] = known.get("scores") or ()
        share = self._share_of_run()
        if not isinstance(edit, SetRecipe) or set(edit.changes) != {"lr"} or not stood(self.run):
            return None
        if share is not None and not self._tight(share):
            return None
        for (lr, _), score in zip(rows, scores, strict=True):
            if lr == edit.changes["lr"]:
                found = self._beside(edit, dict(score), int(known["steps"]), full=False, own=False)
                return found if leaves_the_guess(self.run, found) else None
        return None

    def _rates(self) -> None:
        full = self._full()
        left = self.limit - time.monotonic()
        for share in (0.3, 0.15):
            if self._cost(share) * 4 <= 0.6 * left or share == 0.15:
                break
        steps = min(full, max(20, int(share * full)))
        self._say(f"other learning rates, {steps} steps each")
        until = time.monotonic() + 0.6 * max(left, 0.0)
        self._record(
            "rates",
            lambda: rates.measure(self.run, self.problem, self.recipe, self.held, steps, until),
        )
        late = self.run.facts.setdefault("rates", {}).get("late")
        if late:
            self._skip(f"No time for {len(late)} other learning rate{'' if len(late) == 1 else 's'}.")


def _provable(findings: Sequence[Finding], tried: set[str]) -> list[Finding]:
    """What can still be tried."""
    return [
        f
        for f in flat(findings)
        if f.symptom not in tried and f.symptom != "high-variance" and f.remedies and f.remedies[0].provable
    ]


def flat(findings: Sequence[Finding]) -> list[Finding]:
    """Every finding and what follows from it."""
    return [each for finding in findings for each in (finding, *flat(finding.consequences))]
