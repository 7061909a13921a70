"""How a race is run: every contestant tuned by the same number of runs, then all on the same fresh seeds."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from downslope.core.errors import DownslopeError
from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.core.run import Run
from downslope.racing.contestants import Contestant
from downslope.racing.entry import Entry
from downslope.racing.ledger import Ledger
from downslope.racing.outcome import Outcome, Phase, outcome_of
from downslope.racing.pace import JUDGED, ROUNDS, first_look, judging, middle, pace
from downslope.racing.protocol import Protocol
from downslope.racing.result import Race
from downslope.racing.spaces import Spaces, stages
from downslope.racing.task import Task
from downslope.racing.times import Target, first_reached, of_reference, paces_of
from downslope.training.facts import one_line
from downslope.training.hushed import hushed
from downslope.training.population import fit_population
from downslope.training.price import total_steps
from downslope.training.progress import Progress


class Stop(Exception):  # noqa: N818 (no error: the race ends here)
    """The race ends: "interrupted" or "time"."""


Planned = tuple[Contestant, int, int, dict[str, Any], Problem, Recipe]
"""Contestant, lap, number, values, problem and recipe of one run."""


@dataclass(eq=False)
class Course:
    """Runs the race and holds what it knows.

    Attributes:
        tasks: The problems.
        protocol: The rules.
        ledger: What is measured.
        space: As it was given.
        until: `time.monotonic` at which it ends.
        progress: Whether to show how far it is.
        tell: Is given the race so far after each stage.
        going: Is given what is in work.
        options: For `fit_population`: workers, ray, way.
        trials: As many as fit into the time.
    """

    tasks: Sequence[Task]
    protocol: Protocol
    ledger: Ledger
    space: Mapping[str, Any] | None = None
    until: float | None = None
    progress: bool = True
    tell: Callable[[Race], None] | None = None
    going: Callable[[str], None] | None = None
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    trials: int = 0
    need: float = 0.0
    """Seconds that the seeds take without any tuning, one by one; 0 where that is not known."""
    notes: list[str] = field(default_factory=list[str])
    out: dict[tuple[str, str], str] = field(default_factory=dict[tuple[str, str], str])
    """Problem and contestant to why it cannot be trained there."""
    status: str = "done"
    spaces: Spaces = field(init=False)

    def __post_init__(self) -> None:
        self._begun = time.monotonic()
        self.spaces = Spaces(self.space, self.protocol.widen, self.tuning)

    # -- stages -------------------------------------------------------------------------------------------

    def go(self) -> Race:
        """Tune, race, and say how it ended; Ctrl-C and the end of the time keep what there is."""
        try:
            if not self.protocol.retune:
                for task in self.tasks:
                    self._tune(task, 0)
            self._race()
        except (Stop, KeyboardInterrupt) as ended:
            self.status = str(ended) or "interrupted"
        return self.so_far()

    def paces(self, task: Task) -> dict[str, float]:
        """Name to seconds of a step; who cannot take one is out, and why is told."""
        known = self.ledger.facts.get(f"pace/{task.name}")
        if known is None:
            self._begin()
            looks: dict[str, float] = {}
            recipes = {each.name: each.recipe for each in task.contestants}
            with Progress(f"{task.name}: timing steps", None, shown=self.progress, brief=True) as bar:

                def timed(name: str) -> None:
                    bar.note(name)
                    self._going(f"{task.name}: timing steps of {name}")

                for name, recipe in recipes.items():
                    timed(name)
                    try:
                        looks[name] = first_look(task.problem, recipe)
                    except Exception as error:  # noqa: BLE001 (anybody's optimizer runs in there)
                        self.out[task.name, name] = one_line(error)
                able = {name: recipes[name] for name in looks}
                count = JUDGED if self.protocol.by == "seconds" else ROUNDS
                rounds = pace(task.problem, able, rounds=count, looks=looks, tell=timed)
            known = middle(rounds)
            self.ledger.fact(f"rounds/{task.name}", rounds)
            self._price_judging(task)
            out = {name: why for (where, name), why in self.out.items() if where == task.name}
            self.ledger.fact(f"out/{task.name}", out)
            self.ledger.fact(f"pace/{task.name}", known)
        for name, why in (self.ledger.facts.get(f"out/{task.name}") or {}).items():
            self.out[task.name, name] = why
        return known

    def _price_judging(self, task: Task) -> None:
        """Time an evaluation; where the metric fails nobody can be raced on this problem."""
        able = self.able(task)
        if not able:
            return
        try:
            self.ledger.fact(f"judging/{task.name}", judging(task.problem, able[0].recipe))
        except Exception as error:  # noqa: BLE001 (anybody's metric runs in there)
            self.out |= {(task.name, each.name): one_line(error) for each in able}

    def price(self, task: Task) -> float:
        """Seconds that one run of everybody takes on a problem, alone: steps and evaluations."""
        paces = self.paces(task)
        able = self.able(task)
        looks = len(able) * float(self.ledger.facts.get(f"judging/{task.name}") or 0.0)
        steps = (paces.get(one.name, 0.0) * (total_steps(task.problem, one.recipe) or 0) for one in able)
        return looks + sum(steps)

    @property
    def live(self) -> list[Task]:
        """The problems on which somebody can be trained; all of them where that is nowhere so."""
        return [task for task in self.tasks if self.able(task)] or list(self.tasks)

    @property
    def racing(self) -> list[str]:
        """Contestants that can be trained on every such problem."""
        names = [each.name for each in self.tasks[0].contestants]
        return [name for name in names if all((task.name, name) not in self.out for task in self.live)]

    def _tune(self, task: Task, lap: int) -> None:
        for each in self.able(task):
            fresh = self.protocol.seed + self.protocol.seeds + 1 + lap
            seed = fresh if self.protocol.retune else self.protocol.seed
            found: list[Outcome] = []
            for numbers in stages(self.trials, self.protocol.widen):
                space = {} if self.trials < 2 else self.spaces.at(task, each, lap, numbers[0])
                drawn = each.trials(task.problem, space, numbers, self.protocol.seed + lap)
                planned = [
                    (each, lap, number, values, problem, recipe.edit(seed=seed))
                    for number, (values, problem, recipe) in zip(numbers, drawn, strict=True)
                ]
                found += self._train(task, "tune", planned, f"{task.name}: tuning {each.name}")
            failed = [one for one in found if one.status == "failed"]
            if found and len(failed) == len(found):
                self.out[task.name, each.name] = f"all {len(found)} trials failed: {common(failed)}"
            self._told()
        if task.target.source == "none" and lap == 0 and self.trials:
            self._set_target(task)

    @property
    def _first(self) -> int:
        """Seeds that are raced before anybody looks."""
        test = self.protocol.test(len(self.tasks[0].contestants))
        return test.first_look() if self.protocol.early else self.protocol.seeds

    def _race(self) -> None:
        planned = self.protocol.seeds
        done = self._first
        begun = 0
        while len(self.racing) > 1:  # by one alone nothing is decided
            for task in self.live:
                if self.protocol.retune:
                    for place in range(begun, done):
                        self._tune(task, place)
                runs = [
                    (each, 0, place, *self._tuned(task, each, place))
                    for each in self.able(task)
                    for place in range(begun, done)
                ]
                self._train(task, "race", runs, f"{task.name}: {_seeds(begun, done)}")
                if task.target.source == "none":
                    self._set_target(task)
            self._told()
            if done >= planned:
                return
            if self.protocol.early and self.so_far().winner is not None:
                self.status = "decided"
                return
            begun, done = done, done + 1

    # -- one stage's parts --------------------------------------------------------------------------------

    def able(self, task: Task) -> list[Contestant]:
        """Who can be trained on this problem."""
        return [each for each in task.contestants if (task.name, each.name) not in self.out]

    def best(self, task: Task, name: str, lap: int = 0) -> Outcome | None:
        """The trial that won the tuning; None where there was none."""
        found = [one for one in self.tuning(task, name) if one.lap == lap and one.status != "failed"]
        if not found:
            return None
        return min(found, key=lambda one: (*self._rank(task, one), one.number))

    def _rank(self, task: Task, one: Outcome) -> tuple[float, float]:
        cost = task.measure.cost(one.level)
        if self.protocol.by == "level" or task.target.source == "none":
            return cost, 0.0
        return first_reached(one, task.measure, task.target.level), cost

    def tuning(self, task: Task, name: str) -> list[Outcome]:
        """The trials of a contestant."""
        known = self.ledger.outcomes.values()
        return [one for one in known if (one.problem, one.contestant, one.phase) == (task.name, name, "tune")]

    def _tuned(self, task: Task, each: Contestant, place: int) -> tuple[dict[str, Any], Problem, Recipe]:
        lap = place if self.protocol.retune else 0
        values = self.values(task, each, lap)
        problem, recipe = each.at(task.problem, values)
        return values, problem, recipe.edit(seed=self.protocol.seed + 1 + place)

    def values(self, task: Task, each: Contestant, lap: int = 0) -> dict[str, Any]:
        """What its tuning chose."""
        chosen = self.best(task, each.name, lap)
        if chosen is None or not chosen.number:
            return {}
        space = self.spaces.at(task, each, lap, chosen.number)
        return each.trials(task.problem, space, [chosen.number], self.protocol.seed + lap)[0][0]

    def _set_target(self, task: Task) -> None:
        task.target = self.target_of(task) or task.target

    def target_of(self, task: Task) -> Target | None:
        """The level that a share of the reference's way gives; None as long as nothing is known."""
        phase: Phase = "tune" if self.trials else "race"
        pools: dict[str, list[Outcome]] = {}
        for each in self.able(task):
            if phase == "tune":
                pools[each.name] = [one for one in [self.best(task, each.name)] if one is not None]
            else:
                pools[each.name] = self.raced(task, each.name)[: self._first]
        pools = {name: pool for name, pool in pools.items() if pool}
        if not pools:
            return None
        reference = self.protocol.reference or min(
            pools,
            key=lambda name: sorted(task.measure.cost(o.level) for o in pools[name])[len(pools[name]) // 2],
        )
        if reference not in pools:
            return None
        return of_reference(reference, pools[reference], task.measure, self.protocol.fraction)

    def raced(self, task: Task, name: str) -> list[Outcome]:
        """Its runs on fresh seeds, in order."""
        found = [
            one
            for one in self.ledger.outcomes.values()
            if (one.problem, one.contestant, one.phase) == (task.name, name, "race")
        ]
        return sorted(found, key=lambda one: one.number)

    def _train(self, task: Task, phase: Phase, planned: Sequence[Planned], label: str) -> list[Outcome]:
        """The outcomes of these runs: those that are known, and the others trained now.

        Raises:
            Stop: interrupted, or out of time.
        """
        new = [
            one for one in planned if self.ledger.get(task.name, one[0].name, phase, one[1], one[2]) is None
        ]
        if new:
            self._begin()
            with hushed(), _gathered():
                runs = fit_population(
                    [one[4] for one in new], [one[5] for one in new], folder=False,
                    progress=self.progress, label=label, strict=False, until=self.until,
                    on_end=self._keeping(task, phase, new, label), **self.options,
                )  # fmt: skip
            if any(self.ledger.get(task.name, one[0].name, phase, one[1], one[2]) is None for one in new):
                raise Stop("interrupted" if any(run.status == "interrupted" for run in runs) else "time")
        known = [self.ledger.get(task.name, one[0].name, phase, one[1], one[2]) for one in planned]
        return [one for one in known if one is not None]

    def _going(self, what: str) -> None:
        if self.going is not None:
            self.going(what)

    def _begin(self) -> None:
        """Refuse to begin anything once the time is up.

        Raises:
            Stop: it is.
        """
        if self.until is not None and time.monotonic() >= self.until:
            raise Stop("time")

    def _keeping(
        self, task: Task, phase: Phase, planned: Sequence[Planned], label: str
    ) -> Callable[[int, Run], None]:
        """Keeps the outcome of each of these runs as soon as it has ended: a kill costs those that run."""
        last = time.monotonic()
        ended = 0
        self._going(f"{label}, {len(planned)} runs")

        def keep(place: int, run: Run) -> None:
            nonlocal last, ended
            each, lap, number, values, _, _ = planned[place]
            last, former = time.monotonic(), last
            self.ledger.add(
                outcome_of(
                    run, task.measure, problem=task.name, contestant=each.name, phase=phase, number=number,
                    lap=lap, values=values, seconds=last - former,
                )
            )  # fmt: skip

            ended += 1
            self._going(f"{label}, {ended} of {len(planned)} runs have ended")

        return keep

    # -- what there is ------------------------------------------------------------------------------------

    def _told(self) -> None:
        if self.tell is not None:
            self.tell(self.so_far())

    def so_far(self) -> Race:
        """The race as it stands."""
        entries = [self._entry(task, each) for task in self.live for each in task.contestants]
        return Race(
            protocol=self.protocol, trials=self.trials, entries=entries, status=self.status,
            notes=list(self.notes), folder=None if self.ledger.path is None else self.ledger.path.parent,
            elapsed=time.monotonic() - self._begun,
        )  # fmt: skip

    def _entry(self, task: Task, each: Contestant) -> Entry:
        own = [
            one
            for one in self.ledger.outcomes.values()
            if (one.problem, one.contestant) == (task.name, each.name)
        ]
        why = self.out.get((task.name, each.name), "")
        rounds: Mapping[str, Sequence[float]] = self.ledger.facts.get(f"rounds/{task.name}") or {}
        paces = paces_of(rounds)
        values: dict[str, Any] = {}
        recipe = each.recipe
        if not why:
            with contextlib.suppress(DownslopeError):
                values = self.values(task, each)
                recipe = each.at(task.problem, values)[1]
        return Entry(
            problem=task.name, contestant=each.name, measure=task.measure, target=task.target,
            recipe=recipe, given=each.recipe, values=values, raced=self.raced(task, each.name),
            tuning=[one for one in own if one.phase == "tune"],
            step_seconds=paces.get(each.name, float("nan")),
            rounds=rounds.get(each.name, ()),
            error=why,
        )  # fmt: skip


def _seeds(begun: int, done: int) -> str:
    return f"seed {done}" if done == begun + 1 else f"seeds {begun + 1} to {done}"


def common(failed: Sequence[Outcome]) -> str:
    """The most frequent cause."""
    causes = [one.error or one.status for one in failed]
    return max(causes, key=causes.count)


@contextlib.contextmanager
def _gathered() -> Generator[None]:
    """A block whose runs do not each repeat what one of them has said."""
    from downslope.training.broadcast import once

    with once():
        yield
