"""A search whose members pause at rungs, where those that do badly end or become others."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from downslope.tuning.allowance import share_of
from downslope.tuning.confirmed import Confirmed, foremost
from downslope.tuning.crowd import Crowd
from downslope.tuning.failures import hopeless
from downslope.tuning.hunt import Hunt
from downslope.tuning.kept import add_curves
from downslope.tuning.population_based import PopulationBased
from downslope.tuning.replay import replay
from downslope.tuning.rungs import Stopped
from downslope.tuning.schedule import Schedule, stairs
from downslope.tuning.strategies import WAITS, epochs_of, strategy_of
from downslope.tuning.trained import Curve, curve_of, measure_of, worst
from downslope.tuning.trial import Trial

POPULATION = 16
"""Members of population-based training where no number of trials is given."""


class RungHunt(Hunt):
    """A hunt by a strategy of `downslope.tuning.strategies`; its trials are the members.

    A trial that comes to the last rung is done, one that ends before is pruned with the value that it had
    there, and its values at all rungs are in the journal. Of population-based training a trial keeps the
    hyper-parameters that it began with, and the schedule that made it: ``attrs["schedule"]``.
    """

    _first = 1.0  # a bracket is begun whole

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        plan = self.plan
        self.epochs = epochs_of(plan.problem, plan.recipe)
        self.strategy = strategy_of(str(plan.pruner), self.epochs, plan.space, plan.seed)
        self._waits = plan.pruner in WAITS
        self._of: dict[int, Trial] = {}
        self._left: dict[int, Trial] = {}
        self._schedules: dict[int, Schedule] = {}
        self._clock = time.monotonic()

    # -- the search ---------------------------------------------------------------------------------------

    def search(self) -> None:
        """Begin brackets and climb until the budget is used up, or it is hopeless."""
        looked = False
        while not self._over:
            self.trials.reap()
            seeds = [self.plan.recipe.seed + i for i in range(self.plan.seeds)]
            self.crowd = Crowd(self.plan.problem, self.plan.recipe, seeds=seeds, until=self._until)
            self._of, self._left, self._schedules = {}, {}, {}
            self._clock = time.monotonic()
            self._climb()
            if not self._of:
                if looked or not self._more():
                    return
                looked = True
                continue
            looked = False
            self._settle(list(self._left))
            self._show(running={})
            self.stopped = self.stopped or hopeless(self.trials.all())

    def _climb(self) -> None:
        asked = self._allowed(self.plan.trials or self.plan.batch) + len(self.trials.waiting())
        if not isinstance(self.strategy, PopulationBased):
            if asked > 0:
                self.strategy.run(self.train, self.ask, asked)
        elif asked == 1:  # one that was interrupted, or lost: nobody is left to learn from
            with contextlib.suppress(Stopped):
                self.train(self.ask(1), self.epochs)
        elif asked > 1:
            found = self.strategy.run(_Bred(self), asked if self.plan.trials else POPULATION)
            if found.ladder.rungs:
                self._schedules = {number: found.schedule(number) for number in found.begun}

    def ask(self, n: int) -> list[int]:
        """Begin up to n trials, a bracket whole whatever `batch` says; who ended before is told first."""
        if self._waits:
            self._settle(list(self._left), behind=True)
        room = self._room()
        if self._over or room < 1 or self._used_up:
            return []
        begun = self._begin(n if room >= self.plan.batch else min(n, room))
        numbers = self.crowd.begin([each.values for each in begun])
        fresh = dict(zip(numbers, begun, strict=True))
        self._of |= fresh
        self._left = {**self._left, **fresh}
        self._show(running={each.number: (0, math.nan) for each in begun})
        return numbers

    @property
    def _used_up(self) -> bool:
        """Whether members under way, of whom the journal knows no steps yet, leave no run of the steps."""
        plan = self.plan
        under_way = sum(self.crowd.steps(number) for number in self._left)
        if plan.steps is None or not under_way:
            return False
        each = self._steps_each or 0
        share = share_of(plan.steps, each / plan.seeds, plan.confirm) if plan.trials is None else 1.0
        return self.trials.spent.steps + under_way + each > share * plan.steps

    def train(self, members: Sequence[int], units: int) -> list[float]:
        """Train these on; those that a barrier has left behind are told first.

        Raises:
            Stopped: somebody interrupted, or the time is up.
        """
        if self._waits:
            self._settle([number for number in self._left if number not in members], behind=True)
        if self._over:
            raise Stopped("interrupted")
        try:
            losses = self.crowd.train(members, units)
        except KeyboardInterrupt:
            self.interrupted = True
            raise Stopped("interrupted") from None
        step = units * self._epoch
        reached = [(self._of[n], self._signed(loss)) for n, loss in zip(members, losses, strict=True)]
        with self.trials.batch():
            for trial, value in reached:
                if math.isfinite(value):
                    self.trials.rung(trial, step, value)
        self._show(running={trial.number: (step, value) for trial, value in reached})
        return losses

    def _signed(self, loss: float) -> float:
        return -loss if self.plan.direction == "max" else loss

    # -- what became of them ------------------------------------------------------------------------------

    def _settle(self, numbers: Sequence[int], *, behind: bool = False) -> None:
        """End these members, and tell the journal what became of each.

        Args:
            numbers: Which.
            behind: Whether those that are not through were left behind at a rung; else they may be cut.
        """
        if not numbers:
            return
        self.crowd.end(numbers)
        now = time.monotonic()
        each, self._clock = (now - self._clock) / len(numbers), now
        curves: dict[int, Curve] = {}
        with self.trials.batch():
            for number in numbers:
                runs = self.crowd.runs(number)
                self._tell_one(number, each, cut=not behind and (self._over or self.crowd.over))
                if runs and (curve := curve_of(self.plan.problem, runs[0]))[0]:
                    curves[self._of[number].number] = curve
        self.crowd.forget(numbers)
        self._left = {number: trial for number, trial in self._left.items() if number not in numbers}
        self.curves |= curves
        add_curves(self.folder, curves)

    def _tell_one(self, number: int, seconds: float, *, cut: bool) -> None:
        trial, runs, value = self._of[number], self.crowd.runs(number), self._signed(self.crowd.loss(number))
        steps = [int(run.summary.get("steps") or 0) for run in runs]
        spent: dict[str, Any] = {"seconds": round(seconds, 6), "steps": sum(steps)}
        if number in self._schedules:
            spent["schedule"] = self._schedules[number].table()
        statuses = {run.status for run in runs}
        if number in self.crowd.causes:
            self.trials.failed(trial, self.crowd.causes[number], **spent)
        elif "interrupted" in statuses or (cut and "stopped" in statuses):
            self.trials.give_back([trial], "interrupted" if self._over else "its time was up")
            self.stopped = self.stopped or (None if self._over else self._out_of_time)
        elif not math.isfinite(value):
            self.trials.pruned(
                trial, cause=f"training diverged at step {max(steps, default=0)}", diverged=True, **spent
            )
        elif "stopped" in statuses:
            had = -(-max(steps) // self._epoch)
            cause = f"not among the best after {had} of {self.epochs} epochs"
            self.trials.pruned(trial, value, cause=cause, **spent)
        else:
            self.trials.done(trial, value, **spent)

    # -- population-based training ------------------------------------------------------------------------

    def confirm(self) -> tuple[Confirmed, ...]:
        """Train the best few with seeds that the search has not seen; what has a schedule along it."""
        plan = self.plan
        if not isinstance(self.strategy, PopulationBased):
            return super().confirm()
        top = [each for each in foremost(self.trials.all(), plan.direction, plan.confirm) if stairs(each)]
        if not top or (self._over and self.interrupted):
            return ()
        self._show(phase="confirming", running={})
        first, found = plan.recipe.seed + plan.seeds, list[Confirmed]()
        seeds = tuple(first + i for i in range(plan.fresh))
        for trial in top:
            try:
                along = Schedule.of_table(stairs(trial))
                runs = replay(plan.problem, plan.recipe, along, seeds=seeds, until=self._last)
            except (Stopped, KeyboardInterrupt):
                break
            self.fresh_steps += sum(int(run.summary.get("steps") or 0) for run in runs)
            values = [measure_of(plan.problem, run) for run in runs]
            told = tuple(value if math.isfinite(value) else worst(plan.problem) for value in values)
            found.append(Confirmed(trial.number, trial.values, trial.value or 0.0, told, seeds))
        self._show(phase="done", running={})
        return tuple(found)

    @property
    def _last(self) -> float | None:
        """`time.monotonic` at which all is over."""
        seconds = self.plan.seconds
        return None if seconds is None else self._begun + seconds - self._before.seconds


class _Bred:
    """The members of a hunt, as population-based training wants them."""

    def __init__(self, hunt: RungHunt) -> None:
        self.hunt = hunt

    def ask(self, n: int) -> Sequence[int]:
        """Begin up to n."""
        return self.hunt.ask(n)

    def train(self, members: Sequence[int], units: int) -> Sequence[float]:
        """Train these on."""
        return self.hunt.train(members, units)

    def values(self, member: int) -> Mapping[str, Any]:
        """What a member has now."""
        return self.hunt.crowd.values(member)

    def goes_on(self, member: int) -> bool:
        """Whether it can train on."""
        return self.hunt.crowd.goes_on(member)

    def become(self, member: int, source: int, values: Mapping[str, Any]) -> None:
        """Take over."""
        self.hunt.crowd.become(member, source, values)
