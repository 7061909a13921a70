"""The course of a search: begin a batch, train it, tell what became of it, until a budget is used up."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from downslope.core.space import Dimension
from downslope.training.price import total_steps
from downslope.training.stopping import interruptions
from downslope.tuning import price
from downslope.tuning.allowance import FIRST, SLACK, fitting, share_of
from downslope.tuning.confirmed import Confirmed, foremost
from downslope.tuning.failures import hopeless
from downslope.tuning.kept import add_curves
from downslope.tuning.plan import Plan
from downslope.tuning.standing import Standing, Watch
from downslope.tuning.stopping_rule import RULES, Rule, rule_of
from downslope.tuning.trained import Curve, Outcome, train
from downslope.tuning.trial import Trial
from downslope.tuning.trials import Trials
from downslope.tuning.widening import Widening

OFTEN = 0.5
"""Seconds between two times that ended trials of a batch are written: each is one locked write."""
ALL_TRIED = "every configuration of the space has been tried"


class Hunt:
    """One search on its way.

    Args:
        plan: What is searched; replaced where ranges are widened.
        trials: Where it is kept.
        folder: For curves; None of one in memory.
        watch: Told of every step on the way.
        on_widened: Called with the plan whose ranges are wider.
    """

    def __init__(
        self,
        plan: Plan,
        trials: Trials,
        *,
        folder: Path | None = None,
        watch: Watch | None = None,
        on_widened: Callable[[Plan, Sequence[str]], None] | None = None,
    ) -> None:
        self.plan, self.trials, self.folder = plan, trials, folder
        self.curves: dict[int, Curve] = {}
        self._widening = Widening(trials)
        self.stopped: str | None = None
        self.interrupted = False
        self._sampler = plan.make_sampler()
        self._watch, self._on_widened = watch, on_widened
        self._begun, self._heard = time.monotonic(), interruptions()
        self._before = trials.spent
        self._standing = Standing(plan)
        self._standing.now(trials.all())
        self._rule: Rule | None = None
        self._dropped: set[int] = set()
        self._epoch = max(1, (total_steps(plan.problem, plan.recipe.edit(epochs=1)) or 1))
        if plan.pruner in RULES:
            steps = total_steps(plan.problem, plan.recipe) or self._epoch
            self._rule = rule_of(plan.pruner, max(1, -(-steps // self._epoch)))

    @property
    def seconds(self) -> float:
        """Spent, over all sessions."""
        return self._before.seconds + self._confirming + time.monotonic() - self._begun

    @property
    def widenings(self) -> list[str]:
        """What was widened on the way, in words."""
        return self._widening.told

    def stop(self) -> None:
        """End after what is under way: Ctrl-C."""
        self.interrupted = True

    def hear(self) -> None:
        """Take note of an interrupt that whoever trained has heard."""
        self.interrupted = self.interrupted or interruptions() > self._heard

    def ended_before(self, steps: int, seconds: float) -> None:
        """Count what an earlier session had spent in all, its confirmation too."""
        self.fresh_steps = max(0, steps - self.trials.spent.steps)
        self._confirming = max(0.0, seconds - self._before.seconds)

    @property
    def _over(self) -> bool:
        self.hear()
        return self.interrupted or self.stopped is not None

    # the search

    def search(self) -> None:
        """Begin, train and tell batches until the budget is used up, all is tried, or it is hopeless."""
        while not self._over:
            self.trials.reap()
            self._widen(self._widening.noted(self.plan))
            begun = self._begin(room := self._room())
            if not begun:
                if room > 0 and self._more():
                    continue
                if room > 0 and self._allowed(1) > 0 and any(each.ended for each in self.trials.all()):
                    self.exhausted = ALL_TRIED
                return
            if self._over:
                return  # interrupted while it was asked what to begin: who called gives them back
            self._round(begun)
            self.stopped = self.stopped or hopeless(self.trials.all())
            if self.plan.widen and not self._over and self._allowed(1) > 0 and self._room() > 0:
                self._widen(self._widening.next(self.plan))

    def _begin(self, room: int) -> list[Trial]:
        """Up to `room` trials that are now running here: those that wait first, then new ones."""
        if room < 1:
            return []
        begun = self.trials.take(room)
        left = room - len(begun)
        if self._sampler.models:  # it may take seconds, for which no one else is to wait
            asked = self._sampler.ask(self.trials.all(), left) if (left := self._allowed(left)) > 0 else []
            with self.trials.batch():
                return begun + self.trials.begin(asked[: max(0, self._allowed(len(asked)))])
        with self.trials.batch():
            left = self._allowed(left)
            asked = self._sampler.ask(self.trials.all(), left) if left > 0 else []
            return begun + (self.trials.begin(asked) if asked else [])

    def _more(self) -> bool:
        """Whether a worker elsewhere turns out to have died, so that its trials wait."""
        return self.trials.settle(lambda: self._over or self._room() < 1)

    def _allowed(self, new: int) -> int:
        most = self.plan.trials
        return new if most is None else min(new, most - self.trials.spent.trials)

    def _room(self) -> int:
        """Trials of the next batch for which there is time, and steps."""
        plan, room = self.plan, self.plan.batch
        seconds, steps = self._each
        first = not self.trials.spent.steps
        if plan.seconds is not None:
            left = self._search_seconds - self.seconds
            fits = int(left / seconds) if left > 0 else 0
            room = min(room, max(int(self._first * left / seconds), min(fits, 1)) if first else fits)
            if first and not room:
                self.stopped = f"a trial takes about {seconds:.3g} s, and there are {plan.seconds:g} s in all"
        if plan.steps is not None and steps:
            share = share_of(plan.steps, steps / plan.seeds, plan.confirm)
            room = min(room, int((share * plan.steps - self.trials.spent.steps) / steps))
            if first and room < 1:
                room = int(plan.steps >= steps)
                self.stopped = (
                    None if room else f"a trial takes {steps:g} steps, there are {plan.steps} in all"
                )
        return max(room, 0)

    @property
    def _each(self) -> tuple[float, float]:
        """Seconds and steps of a trial: of those that have ended, at first by a few steps of the recipe."""
        plan, spent = self.plan, self.trials.spent
        ended = sum(each.state in ("done", "pruned") for each in self.trials.all())
        if ended:
            return SLACK * (self.seconds - self._pricing) / ended, spent.steps / ended
        if plan.seconds is None:
            return 0.0, float(self._steps_each or 0)
        return self._priced, float(self._steps_each or 0)

    @cached_property
    def _priced(self) -> float:
        """Seconds of a trial, by a few steps of the recipe."""
        begun = time.monotonic()
        one = price.trial(self.plan)
        self._pricing = time.monotonic() - begun
        return max(one.seconds, 1e-6) * self.plan.seeds

    @property
    def _search_seconds(self) -> float:
        whole = self.plan.seconds or math.inf
        return whole * share_of(whole, self._each[0] / self.plan.seeds, self.plan.confirm)

    @property
    def _steps_each(self) -> int | None:
        each = total_steps(self.plan.problem, self.plan.recipe)
        return None if each is None else each * self.plan.seeds

    @property
    def _until(self) -> float | None:
        whole = None if self.plan.seconds is None else self._search_seconds
        return None if whole is None else self._begun + whole - self._before.seconds

    def _round(self, begun: Sequence[Trial]) -> None:
        """Train a batch and tell what became of each."""
        plan = self.plan
        self._show(running={each.number: (0, math.nan) for each in begun})
        telling = _Telling(self, begun)
        try:
            outcomes = train(
                plan.problem,
                plan.recipe,
                [each.values for each in begun],
                seeds=[plan.recipe.seed + i for i in range(plan.seeds)],
                until=self._until,
                heard=lambda i, step, value: self._hear(begun[i], step, value),
                ended=telling,
                **self._how,
            )
        except KeyboardInterrupt:
            self.interrupted = True
            outcomes = [Outcome("unfinished", cause="interrupted")] * len(begun)
        self.interrupted = self.interrupted or any(each.lost for each in outcomes)
        telling.rest(outcomes)
        self._show(running={})

    @property
    def _how(self) -> dict[str, Any]:
        """What training is told besides, where it was asked for."""
        found = {"workers": self.plan.workers} if self.plan.workers > 1 else {}
        return found | ({"ray": self.plan.ray} if self.plan.ray else {})

    def tell(self, begun: Sequence[Trial], outcomes: Sequence[Outcome], each: float) -> None:
        """Write what became of these trials, of which each took `each` seconds."""
        curves: dict[int, Curve] = {}
        left: list[Trial] = []
        with self.trials.batch():
            for trial, found in zip(begun, outcomes, strict=True):
                spent: dict[str, Any] = {"seconds": round(each, 6), "steps": found.steps}
                if found.curve[0]:
                    curves[trial.number] = found.curve
                if found.pruned and self.interrupted and trial.number not in self._dropped:
                    left.append(trial)
                elif found.state == "done" and found.pruned:
                    self.trials.pruned(trial, found.value, cause="not among the best on its way", **spent)
                elif found.state == "done":
                    self.trials.done(trial, found.value, **spent)
                elif found.state == "diverged":
                    self.trials.pruned(trial, cause=found.cause or "", diverged=True, **spent)
                elif found.state == "failed":
                    self.trials.failed(trial, found.cause or "no cause", **spent)
                else:
                    left.append(trial)
            if left:
                self.trials.give_back(left, "interrupted" if self._over else "its time was up")
        self.curves |= curves
        add_curves(self.folder, curves)
        if left and not self._over:
            self.stopped = self.stopped or self._out_of_time

    def told(self, ended: Sequence[Trial]) -> None:
        """Show that these are no longer under way."""
        gone = {each.number for each in ended}
        self._show(running={key: each for key, each in self._standing.running.items() if key not in gone})

    @property
    def _out_of_time(self) -> str:
        if self.plan.seconds is None:
            return "training ended early"
        return f"what was under way did not fit into the {self.plan.seconds:g} s"

    def _hear(self, trial: Trial, step: int, value: float) -> bool:
        self._standing.heard(trial.number, step, value)
        self._show()
        if self.interrupted or self._rule is None:
            return self.interrupted
        loss = -value if self.plan.direction == "max" else value
        drop = self._rule(trial.number, math.ceil(step / self._epoch), loss)
        if drop:
            self._dropped.add(trial.number)
        return drop

    def _show(self, **changes: Any) -> None:
        if self._watch is None:
            return
        for key, value in changes.items():
            setattr(self._standing, key, value)
        if changes:
            self._standing.now(self.trials.all())
            self._standing.steps = self.trials.spent.steps
        self._standing.seconds = self.seconds
        self._watch(self._standing)

    # the space

    def _widen(self, space: dict[str, Dimension] | None) -> None:
        """Go on in a wider space, if it is one."""
        if space is not None:
            self._over_space(space)
            if self._on_widened is not None:
                self._on_widened(self.plan, self.widenings)

    def use(self, space: dict[str, Dimension], told: Sequence[str]) -> None:
        """Go on in the space that earlier sessions have widened."""
        self._widening.begun(told)
        self._over_space(space)

    def _over_space(self, space: dict[str, Dimension]) -> None:
        self.plan = self.plan.over(space)
        self._standing.plan = self.plan
        self._sampler = self.plan.make_sampler()
        self.trials.widen(space)

    # the confirmation

    def confirm(self) -> tuple[Confirmed, ...]:
        """Train the best few with seeds that the search has not seen."""
        plan = self.plan
        top = foremost(self.trials.all(), plan.direction, plan.confirm)
        if not top or (self._over and self.interrupted):
            return ()
        seconds, steps = self._each
        count, fresh = fitting(plan, len(top), (self.seconds, seconds), (self.trials.spent.steps, steps))
        top = top[:count]
        if not top:
            return ()
        first = plan.recipe.seed + plan.seeds
        until = None if plan.seconds is None else self._begun + plan.seconds - self._before.seconds
        self._show(phase="confirming", running={})
        try:
            outcomes = train(
                plan.problem, plan.recipe, [each.values for each in top],
                seeds=[first + i for i in range(fresh)], until=until,
                heard=lambda i, step, value: self._hear_fresh(top[i], step, value),
                partial=True, label="confirm", **self._how,
            )  # fmt: skip
        except KeyboardInterrupt:
            self.interrupted = True
            return ()
        self.interrupted = self.interrupted or any(each.lost for each in outcomes)
        self._show(phase="done", running={})
        self.fresh_steps = sum(each.steps for each in outcomes)
        seeds = tuple(first + i for i in range(fresh))
        return tuple(
            Confirmed(
                trial.number, trial.values, trial.value or 0.0, found.values, seeds[: len(found.values)]
            )
            for trial, found in zip(top, outcomes, strict=True)
            if found.values
        )

    exhausted: str | None = None
    """Why there was nothing to begin although the budget had room."""
    _first = FIRST
    fresh_steps = 0
    _pricing = 0.0
    """Seconds that went into the price of a trial."""
    _confirming = 0.0

    def _hear_fresh(self, trial: Trial, step: int, value: float) -> bool:
        self._standing.heard(trial.number, step, value)
        self._show()
        return self.interrupted


class _Telling:
    """Writes what became of trials as they end, at most every `OFTEN`: a kill costs the rest of a batch."""

    def __init__(self, hunt: Hunt, begun: Sequence[Trial]) -> None:
        self.hunt, self.left = hunt, dict(enumerate(begun))
        self.ready: dict[int, Outcome] = {}
        self.last = time.monotonic()

    def __call__(self, place: int, outcome: Outcome) -> None:
        self.ready[place] = outcome
        if time.monotonic() - self.last >= OFTEN:
            self._write()

    def rest(self, outcomes: Sequence[Outcome]) -> None:
        """Write those that are not written yet."""
        self.ready = {place: outcomes[place] for place in self.left}
        self._write()

    def _write(self) -> None:
        if not self.ready:
            return
        trials = [self.left.pop(place) for place in self.ready]
        former, self.last = self.last, time.monotonic()
        self.hunt.tell(trials, list(self.ready.values()), (self.last - former) / len(trials))
        self.hunt.told(trials)
        self.ready = {}
