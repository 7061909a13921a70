"""The verb `diagnose`: measure, run, try, judge."""

from __future__ import annotations

import math
import time
from typing import Any

from downslope.core.asked import check_asked
from downslope.core.budget import Budget
from downslope.core.errors import DataError, DownslopeError, InputError, ModelError
from downslope.core.fixed_sample import scored
from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.core.run import Run
from downslope.diagnosis.diagnosis import Diagnosis
from downslope.diagnosis.finished import diagnose_run, look
from downslope.diagnosis.gap import WELL, held_out_share
from downslope.diagnosis.judge import judge
from downslope.diagnosis.measure import (
    capacity,
    drops,
    ending,
    imbalance,
    modes,
    noise,
    prepared,
    references,
    sharpness,
    signal,
    spread,
    summed,
)
from downslope.diagnosis.progress import progress as how_far
from downslope.diagnosis.proof import answered
from downslope.diagnosis.session import Folder
from downslope.diagnosis.symptoms.high_bias import wider
from downslope.diagnosis.symptoms.symmetric_init import stuck
from downslope.diagnosis.turns import Turns, flat
from downslope.diagnosis.unfinished import unfinished
from downslope.training.choices import threads
from downslope.training.facts import record
from downslope.training.fit import fit
from downslope.training.optimizer import settled
from downslope.training.price import Price, price
from downslope.training.streams import LONG_EPOCH
from downslope.training.targets import reported
from downslope.training.ways import exact

MOST = 0.7
"""Share of the time that is left which the run may take, where a few timed steps foretold too little."""

TRIED = 1000
"""Steps of a trial where neither the data nor the run tells how long a run is."""

SLACK = 8.0
"""Seconds that measurements and trials may take beyond the run's own time: with twice the run's time plus
10 s for the whole, this leaves 2 s for the judgement and for what cannot be timed."""

PROMISED = 10.0
"""The same with those 2 s."""

OBSERVED = 0.05
"""Share of the run's time that its probes may take: a diagnosis looks closer than a fit."""


def diagnose(
    problem_or_run: Problem | Run,
    recipe: Recipe | None = None,
    *,
    budget: str | float = "2m",
    progress: bool = True,
    folder: Folder = None,
) -> Diagnosis:
    """Why a problem does not train under a recipe, root cause first.

    The data is looked at first, then the untrained model; then the recipe is followed, in full length where
    the budget allows; where the run ended far from what is reachable, suspicions are put to paired trials.
    Ctrl-C ends it with what was found by then: `Diagnosis.interrupted` says where.

    Args:
        problem_or_run: A problem, or a finished run (then nothing is trained, and what it did not record is
            named as not checked).
        recipe: How to train; left out, Adam with its defaults.
        budget: "2m", "90s", seconds, or "500 steps" of each run: then time does not count, and the diagnosis
            is the same on every machine. Of the time no more is used than twice that of the run plus 10 s. A
            run that the budget does not hold is cut, and what it leaves no time for is named as not checked;
            only the look at data and start, some twenty steps and the judgement are made in any case, and
            what is being measured when the time is up is measured to its end.
        progress: Whether to say on standard error what is being looked at.
        folder: Of the run; None makes one, False keeps it in memory.

    Returns:
        The diagnosis; its run holds everything that was measured.

    Raises:
        InputError: data, objective, model, recipe or budget cannot be used; one line.
    """
    if isinstance(problem_or_run, Run):
        return diagnose_run(problem_or_run)
    check_asked(problem_or_run, recipe, or_a=", or a Run")
    recipe = settled(problem_or_run, recipe or Recipe())
    with exact():
        return _Session(problem_or_run, recipe, Budget(budget), progress, folder).go()


class _Session(Turns):
    """One diagnosis on its way."""

    def go(self) -> Diagnosis:
        """Look, run, try, judge; Ctrl-C ends it with what was found by then."""
        try:
            if (hopeless := self._examine()) is not None:
                return self._done(hopeless)
        except KeyboardInterrupt:
            self._interrupt()
        return self._done(judge(self.run))

    def _examine(self) -> Diagnosis | None:
        """All that is measured; the diagnosis of what cannot take a step."""
        self._say("data, output, start")
        look(self.run, self.problem, self.recipe)
        early = judge(self.run)
        hopeless = _lost(early, "non-finite-data") or _lost(early, "non-differentiable")
        if hopeless or (self._refuses() and _lost(early, "output-activation")):
            self.run.status = "failed"
            early.notes.append("No step was taken: the run cannot work before this is put right.")
            return early
        self._train()
        if self.run.status == "interrupted":
            raise KeyboardInterrupt
        with threads(self.run.choices["threads"]):
            self._measure_ending()
            self._settle()
        return None

    def _refuses(self) -> bool:
        """Whether objective or model failed on the first batch."""
        return (self.run.facts.get("start") or {}).get("error") is not None

    # -- the run ------------------------------------------------------------------------------------------

    @reported()
    def _train(self) -> None:
        held = self.price = price(self.problem, self.recipe)
        recipe = self._cut(held)
        left = max(self.budget.left, 0.1)
        known = held.steps is not None or self.length is not None
        spoken = min(held.seconds, MOST * left) if known else MOST * left
        about = "about" if known else "at most"
        first = "" if known else f" (an epoch without an end is cut after {LONG_EPOCH} batches)"
        self._say(f"{about} {spoken:.0f} s for the run{first}, {_in_all(left, 2 * spoken + PROMISED)}")
        facts = self.run.facts
        begun = time.monotonic()
        self.run = fit(
            self.problem, recipe, folder=self.folder, name="diagnose", progress=self.talk, observe=OBSERVED,
            seconds=None if math.isinf(left) else MOST * left,
        )  # fmt: skip
        took = time.monotonic() - begun
        self.run.facts = self.run.facts | facts
        if (cut := self.run.facts.get("cut")) is not None:
            self.length = int(cut["steps"])
            self._tell_cut(self.length, held.steps, endless=cut["seconds"] is None)
        if self.run.status == "diverged" and held.steps is None and self.length is None:
            left = 0.1 * self.budget.left / held.per_step
            self.length = max(int(self.run.summary["steps"]), int(min(left, TRIED)))
        # A diagnosis of a small problem takes at most twice the time of its run plus 10 s.
        if self.budget.steps is None:
            self.limit = min(self.budget.ends, begun + 2 * took + SLACK)
        self.run.facts["seconds"] = took

    def _cut(self, held: Price) -> Recipe:
        """The recipe, shortened where the budget does not hold the whole run and a trial of it.

        Data that does not tell its length is not cut here: it may end before the time does.
        """
        steps, allowed = held.steps, self.budget.steps
        if allowed is None and steps is not None and held.seconds > 0.6 * self.budget.left:
            allowed = max(20, int(0.5 * self.budget.left * steps / held.seconds))
        if allowed is None or (steps is not None and allowed >= steps):
            return self.recipe
        self.length = allowed
        self._tell_cut(allowed, steps)
        return self.recipe.edit(steps=allowed)

    def _tell_cut(self, steps: int, whole: int | None, *, endless: bool = False) -> None:
        why = f"The run was cut to {steps} of {whole or 'an unknown number of'} steps by the budget"
        if endless:
            asked = f"epochs={self.recipe.epochs or 1}"
            why = (
                f"The data tells no length, and its first epoch had not ended after {steps} steps: the run "
                f"was cut there; steps=... in place of {asked} says how long it is to be"
            )
        self.notes = [f"{why}: what comes later is not judged."]
        self.run.facts["truncated"] = True

    def _measure_ending(self) -> None:
        run = self.run
        self.held = scored(self.problem, rows=summed.rows(run, self.problem, self.recipe))
        if run.status == "diverged":
            run.facts.setdefault("not_measured", {})["ending"] = "the run left the finite numbers"
            return
        record(run, "ending", lambda: ending.measure(run, self.problem, *self.held))

    # -- what decides -------------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Where the run ended far from perfect: what is reachable, then one suspicion after another."""
        run, how = self.run, how_far(self.run)
        slip = any(f.symptom == "output-activation" for f in judge(run).findings)
        self._record("drops", lambda: drops.measure(self.problem, self.recipe))
        if run.status != "diverged":
            self._record("imbalance", self._imbalance)
            self._record("modes", lambda: modes.measure(run, self.problem, self.recipe))
            self._record("shift", lambda: prepared.measure(run, self.problem, *self.held[:2]))
            if any(f.symptom == "dataset-shift" for f in judge(run).findings):  # by such data nothing can be
                return
        if how.solved and not how.diverged and not slip and not self._gap():
            self._signal()
            return
        if {"halves", "climbed"} & set(run.facts) and how.ended_far:
            self._first("noisy-gradient")
        self._record("sharpness", lambda: sharpness.measure(self.problem, self.recipe))
        self._record("spread", lambda: spread.measure(self.problem))
        if (run.facts.get("mixed") or {}).get("edits"):  # what has the fault too is no measure for it
            self._first("mixed-examples")
        if not (how.standing or slip):
            self._references()
            if not how_far(run).ended_far and not self._gap():
                self._straighten()
                if stuck(run) and self.length is None and not answered(run):
                    self._first("symmetric-init")
                if answered(run) or not how_far(run).ended_far:
                    self._lengthen()
                    self._signal()
                    return
        run.facts.setdefault("trials", {})
        self._try_all()
        if not answered(run):
            self._references(rest=True)
            if run.status != "diverged":
                self._record("capacity", lambda: capacity.measure(run, self.problem))
                self._widen()
        self._signal()

    def _straighten(self) -> None:
        """Where the inputs lie in a narrow valley, nothing that was compared came further: whitened ones
        may.
        """
        if spread.narrow(self.run) is not None and self.length is None:
            self._first("ill-conditioned")

    def _first(self, name: str) -> None:
        """The trial of one suspicion before any other."""
        trials = self.run.facts.setdefault("trials", {})
        found = next((f for f in flat(judge(self.run).findings) if f.symptom == name), None)
        if found is not None and found.remedies[0].provable:
            self._try(found)
        if not trials:
            del self.run.facts["trials"]  # which says that suspicions are being tried

    def _lengthen(self) -> None:
        """A run that did as well as anything in as many steps may still want more of them."""
        run = self.run
        if not unfinished(run) or self.length is not None or answered(run):
            return
        run.facts.setdefault("trials", {})
        self._record("noise", lambda: noise.measure(run, self.problem, self.recipe))
        for name in ("batch-too-large", "too-few-steps"):
            found = next((f for f in flat(judge(run).findings) if f.symptom == name), None)
            if found is not None and found.remedies and not answered(run):
                self._try(found)

    def _widen(self) -> None:
        """A larger model beside what won back only a part: of a small one, many a setting wins something."""
        edit, trials = wider(self.run), self.run.facts["trials"]
        if edit is not None and (found := self._trial(edit)) is not None:
            trials["high-bias"] = found

    def _gap(self) -> bool:
        """Whether eval mode answers worse than training mode: such a run can have learnt well and be sick."""
        return any(f.symptom == "mode-gap" for f in judge(self.run).findings)

    def _imbalance(self) -> dict[str, Any] | None:
        """Only a twin as long as the run is worth comparing."""
        steps = self._full() if self._share_of_run() == 1.0 else None
        if steps is None or self.run.status == "interrupted":
            return None
        return imbalance.measure(self.run, self.problem, self.recipe, self.held, steps)

    def _signal(self) -> None:
        """Where held-out data is not answered well: whether anything can be told from the inputs at all."""
        share, run = held_out_share(self.run, alone=True), self.run
        overfitted = any(each.symptom == "high-variance" for each in flat(judge(run).findings))
        reasons: dict[str, str] = run.facts.setdefault("not_measured", {})
        if share is not None and share >= WELL and not overfitted:
            reasons.setdefault("signal", "not needed: held-out data is answered well")
            return
        self._say("whether the inputs say anything about the target")
        reasons.pop("signal", None)
        self._record("signal", lambda: signal.measure(self.problem))
        reasons.setdefault("signal", "the data is no table of numbers that trees could read")

    def _references(self, *, rest: bool = False) -> None:
        """What is reachable, until something is far beyond the run; the `rest` of them where asked for."""
        run, known = self.run, len(self.run.facts.get("references") or ())
        for index, (name, problem, recipe, edit) in enumerate(
            references.references(run, self.problem, self._recipe())
        ):
            if index < known:
                continue
            if time.monotonic() + self._cost(1.0) > self.limit:
                self._skip(f"No time for a reference: {name}.")
                continue
            self._say(f"what is reachable: {name}")
            found = references.reach(run, name, problem, recipe, edit, self.held, self._patience())
            if found.get("status") == "cut":
                self._skip(f"No time for a reference: {name}: it took longer than foretold.")
                continue
            if how_far(run).ended_far and not rest:
                return


def _in_all(left: float, twice: float) -> str:
    """The seconds that the whole may take, and what limits them: the budget, or the run."""
    if left <= twice:
        return f"at most {left:.0f} s in all (the budget)"
    more = "" if math.isinf(left) else f", of the {left:.0f} s that the budget leaves"
    return f"at most {twice:.0f} s in all (twice the run plus {PROMISED:.0f} s{more})"


def _lost(diagnosis: Diagnosis, symptom: str) -> bool:
    return any(each.symptom == symptom and each.severity == "critical" for each in diagnosis.findings)


__all__ = ["DataError", "DownslopeError", "InputError", "ModelError", "diagnose", "diagnose_run"]
