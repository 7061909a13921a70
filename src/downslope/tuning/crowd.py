"""Members that train on in parts: what halving, Hyperband and population-based training do with a population.

A member that is paused stays in memory as it stands, and goes on as if it had never paused: `fit` gives the
same run in one go. Members of one shape take their steps together as long as they are asked for together.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from downslope.core import randomness
from downslope.core.errors import InputError
from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.core.run import Run
from downslope.core.space import applied
from downslope.training import choices
from downslope.training.broadcast import once
from downslope.training.facts import one_line
from downslope.training.population.abreast import Abreast
from downslope.training.population.company import Company, Way
from downslope.training.population.crew import Crew
from downslope.training.population.members import Member
from downslope.training.progress import Progress
from downslope.training.ready import Ready
from downslope.training.stopping import stoppable
from downslope.tuning.became import check_changing, take_over
from downslope.tuning.rungs import Stopped
from downslope.tuning.trained import measure_of

Over = Callable[[], bool]
"""Whether training is to end between two epochs."""


class Crowd:
    """The members of one search, of one problem and recipe but for the values of a space.

    Args:
        problem: What is learnt.
        recipe: What the values change.
        seeds: Every configuration trains with each; its loss is the mean. One for population-based
        training.
        folder: Where the runs are kept; None keeps them in memory.
        way: As in `fit_population`.
        until: `time.monotonic` by which it ends.

    Attributes:
        causes: Member to the one line why it could not train.
    """

    def __init__(
        self,
        problem: Problem,
        recipe: Recipe,
        *,
        seeds: Sequence[int] = (0,),
        folder: Path | None = None,
        way: Way = "auto",
        until: float | None = None,
    ) -> None:
        self.problem, self.recipe, self.seeds = problem, recipe, list(seeds)
        self.way: Way = way
        self.folder, self.until = folder, until
        self.causes: dict[int, str] = {}
        self._values: list[dict[str, Any]] = []
        self._members: dict[int, list[Member]] = {}
        self._parties: list[_Party] = []
        self._stopped = False

    # -- members ------------------------------------------------------------------------------------------

    def begin(self, configurations: Sequence[Mapping[str, Any]]) -> list[int]:
        """Members of these values, at step 0; one that cannot train has NaN for its loss, and a cause.

        Returns:
            Their numbers, from 0 over all that began.
        """
        numbers = list(range(len(self._values), len(self._values) + len(configurations)))
        self._values += [dict(values) for values in configurations]
        given: list[tuple[int, Problem, Recipe]] = []
        for number, values in zip(numbers, configurations, strict=True):
            try:
                problem, recipe = applied(self.problem, self.recipe, values)
            except InputError as error:
                self.causes[number] = str(error)
                continue
            given += [(number, problem, recipe.edit(seed=seed)) for seed in self.seeds]
        places: list[Path | Literal[False]] = [self._place(number, recipe) for number, _, recipe in given]
        company = _Seats([(p, r) for _, p, r in given], places, way=self.way)
        with randomness.ONE_AT_A_TIME, once():
            company.train()
        for index, run in company.runs.items():
            self.causes.setdefault(given[index][0], str(run.facts.get("error")))
        for party in company.parties:
            self._parties.append(party)
            for member in party.members:
                self._members.setdefault(given[member.index][0], []).append(member)
        return numbers

    def _place(self, number: int, recipe: Recipe) -> Path | Literal[False]:
        if self.folder is None:
            return False
        seed = f"-seed-{recipe.seed}" if len(self.seeds) > 1 else ""
        return self.folder / f"trial-{number:04d}{seed}"

    def values(self, member: int) -> Mapping[str, Any]:
        """The hyper-parameters that a member has now."""
        return self._values[member]

    def runs(self, member: int) -> list[Run]:
        """The runs of a member, a seed each; `end` completes them."""
        return [each.state.run for each in self._members.get(member, [])]

    def steps(self, member: int) -> int:
        """Optimizer steps that a member has taken, over its seeds."""
        return sum(each.state.step for each in self._members.get(member, []))

    def goes_on(self, member: int) -> bool:
        """Whether a member has not come to its end by itself: a goal, patience, a loss that is not finite."""
        each = self._members.get(member, [])
        return bool(each) and not any(one.over or one.state.run.summary for one in each)

    def become(self, member: int, source: int, values: Mapping[str, Any]) -> None:
        """Take the weights, the optimizer's state and the best so far of `source`, and go on with `values`.

        Raises:
            InputError: values that cannot change while a member trains.
        """
        changed = {key: value for key, value in values.items() if self._values[member].get(key) != value}
        _, recipe = applied(self.problem, self.recipe, values)
        check_changing(recipe, changed)
        for own, other in zip(self._members[member], self._members[source], strict=True):
            take_over(own, other, recipe.edit(seed=own.state.recipe.seed), changed)
            for party in self._parties:
                if party.crew is not None and own in party.crew.members:
                    party.crew.adopt(own)
        self._values[member] = dict(values)

    # -- training -----------------------------------------------------------------------------------------

    def train(self, members: Sequence[int], units: int) -> list[float]:
        """Train these on until each has had `units` epochs, or has come to its end; their losses there.

        Raises:
            Stopped: somebody interrupted, or the time is up; what trained until then is kept.
        """
        asked = [each for number in members for each in self._members.get(number, [])]
        with randomness.ONE_AT_A_TIME, stoppable(self._stop):
            self._parties = [part for party in self._parties for part in party.split(asked)]
            for party in self._parties:
                if party.members[0] in asked:
                    self._guarded(party, lambda party=party: party.train(units, lambda: self.over))
        self._parties = [party for party in self._parties if party.members]
        if self.over:
            raise Stopped("interrupted" if self._stopped else "the time is up")
        return [self.loss(number) for number in members]

    @property
    def over(self) -> bool:
        """Whether somebody interrupted, or the time is up."""
        return self._stopped or (self.until is not None and time.monotonic() >= self.until)

    def _stop(self) -> None:
        self._stopped = True
        for party in self._parties:
            for member in party.members:
                member.stop()

    def loss(self, number: int) -> float:
        """The mean over the seeds of the measure where a member stands; of one that rises, its negative."""
        each = [standing(member) for member in self._members.get(number, [])]
        if not each:
            return math.nan
        sign = -1.0 if self.problem.direction == "max" else 1.0
        return sign * math.fsum(each) / len(each)

    def forget(self, members: Sequence[int]) -> None:
        """Let go of the models and runs of members that were ended; their values stay."""
        for number in members:
            self._members.pop(number, None)

    def end(self, members: Sequence[int] | None = None) -> None:
        """Measure and write these where they stand; "stopped" is who had not come to its end."""
        numbers = list(self._members) if members is None else members
        ending = [each for number in numbers for each in self._members.get(number, [])]
        with randomness.ONE_AT_A_TIME:
            for party in self._parties:
                self._guarded(party, lambda party=party: party.close(ending))
        self._parties = [party for party in self._parties if party.members]

    def _guarded(self, party: _Party, act: Callable[[], None]) -> None:
        """A part of training; who fails in it has a cause, and NaN for a loss."""
        try:
            act()
        except Exception as error:  # noqa: BLE001 (any model, any objective)
            for number, each in self._members.items():
                if any(member in party.members for member in each):
                    self.causes[number] = one_line(error)
            party.members = []


class _Party:
    """Members that go on together: a crew, or one by itself."""

    def __init__(self, members: Sequence[Member], crew: Crew | None, threads: int) -> None:
        self.members, self.crew, self.threads = list(members), crew, threads
        self.begun = False

    def split(self, asked: Sequence[Member]) -> list[_Party]:
        """The party in parts of which all, or none, is asked for; who is not leaves the crew."""
        stay = [member for member in self.members if member in asked]
        if len(stay) in (0, len(self.members)):
            return [self]
        leave = [member for member in self.members if member not in asked]
        if self.crew is not None:
            self.crew.release([member for member in self.crew.members if member in leave])
        self.members = stay
        alone = [_Party([member], None, self.threads) for member in leave]
        for party in alone:
            party.begun = self.begun
        return [self, *alone]

    def train(self, epochs: int, over: Over) -> None:
        """Up to so many epochs, or to the end of each; the last one of a crew is faster by itself."""
        if self.begun and self.crew is not None and len(self.crew.members) == 1:
            self.members = list(self.crew.members)
            self.crew.release(self.members)
            self.crew = None
        with choices.threads(self.threads):
            if self.crew is not None:
                while self.crew.members and self.crew.epoch < epochs and not over():
                    self.crew.go(self.crew.epoch + 1)
            else:
                self._alone(self.members[0], epochs, over)
        self.begun = True

    def _alone(self, member: Member, epochs: int, over: Over) -> None:
        if member.state.run.summary:  # it has come to its end before
            return
        with member.random:
            if not self.begun:
                member.begin()
            while not member.over and member.state.epoch < epochs and not over():
                if not member.go_on():
                    break
        if member.over:
            member.close()
            member.conclude()

    def close(self, ending: Sequence[Member]) -> None:
        """Measure and write those of these that have not come to their end, and go on without them."""
        with choices.threads(self.threads):
            if self.crew is not None:
                self.crew.go(0)  # one that was never asked for has not looked at its start
                self.crew.end([member for member in ending if member in self.crew.members])
            else:
                self._close_alone(self.members[0], ending)
        self.members = [member for member in self.members if member not in ending]

    def _close_alone(self, member: Member, ending: Sequence[Member]) -> None:
        run = member.state.run
        if member not in ending or run.summary:
            return
        if not self.begun:
            member.begin()
            self.begun = True
        if run.status == "running" and not member.stopped:
            run.status = "stopped"
        with member.random:
            member.close()
        member.conclude()


def standing(member: Member) -> float:
    """The measure of a member where it stands: of its best model so far, on training data where there is no
    other.

    NaN for one that diverged.
    """
    run = member.state.run
    if run.status == "diverged":
        return math.nan
    if run.summary:
        return measure_of(member.state.problem, run)
    if member.watchman.best is not None:
        return member.watchman.best
    last = run.history.last("train_epoch_loss") if "train_epoch_loss" in run.history else None
    return math.nan if last is None else last


class _Seats(Company):
    """Members as `fit_population` would share them out, seated and not yet trained."""

    def __init__(
        self,
        members: Sequence[tuple[Problem, Recipe]],
        places: Sequence[Path | Literal[False]],
        *,
        way: Way,
    ) -> None:
        bar = Progress("tune", len(members), shown=False)
        super().__init__(
            members, places, observe=0.0, strict=False, until=None, way=way, workers=1, bar=bar,
            on_evaluation=None,
        )  # fmt: skip
        self.parties: list[_Party] = []

    def _alone(self, index: int, made: Ready, reason: str) -> None:
        made.state.run.choices["population"] = f"one by one: {reason}"
        try:
            if self._changes.get(index) is not None:  # members take turns: each counts in one of its own
                made.state.objective.function = copy.deepcopy(made.state.objective.function)
                made.state.augment = copy.deepcopy(made.state.augment)
            member = self._seated(index, made, None, made.products)
        except Exception as error:  # noqa: BLE001 (any model)
            self._failed(index, error)
            return
        self.parties.append(_Party([member], None, self._threads([made])))

    def _together(self, made: dict[int, Ready], abreast: Abreast) -> None:
        members, crew = self._crew(made, abreast)
        self.parties.append(_Party(members, crew, self._threads(list(made.values()))))
