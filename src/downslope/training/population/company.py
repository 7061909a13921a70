"""The members of a population, shared out: those of one shape to a crew, the others one by one."""

from __future__ import annotations

import contextlib
import itertools
import logging
import time
from collections.abc import Generator, Hashable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from downslope.core import batches
from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.core.run import Run
from downslope.training import choices
from downslope.training.data_check import check_data
from downslope.training.facts import one_line
from downslope.training.fit import run_of
from downslope.training.population.abreast import Abreast
from downslope.training.population.changing import Beginnings, Watched
from downslope.training.population.crew import Crew
from downslope.training.population.groups import data_key, grouped, key, why_alone
from downslope.training.population.members import Member, OnEnd, OnEvaluation
from downslope.training.population.moves import kind
from downslope.training.population.way import OTHERWISE, known_to_lose, pays, pays_to_send, why_apart
from downslope.training.prepare import built, further
from downslope.training.progress import Progress
from downslope.training.ready import Ready, ready, seated, through
from downslope.training.recorder import write_environment

if TYPE_CHECKING:
    from downslope.training.population.foreman import Ended
    from downslope.training.population.hand import Job

_log = logging.getLogger("downslope")

SLOWER = "measured to be faster than together"
"""Why members of one shape go one by one that could go together."""

START = 4.0
"""Seconds until a process trains that has to be started first: it imports torch."""

AWAKE = 0.3
"""The same of one that waits."""

Way = Literal["auto", "together", "one by one", "processes"]


class Company:
    """Trains the members of one population.

    Args:
        members: Problem and recipe of each.
        places: Where each is kept; False for none.
        observe: As in `fit_population`.
        strict: As in `fit_population`.
        until: As in `fit_population`.
        way: As in `fit_population`.
        workers: As in `fit_population`.
        ray: As in `fit_population`.
        bar: What shows how many have ended.
        on_evaluation: As in `fit_population`.
        on_end: As in `fit_population`.
    """

    def __init__(
        self,
        members: Sequence[tuple[Problem, Recipe]],
        places: Sequence[Path | Literal[False]],
        *,
        observe: float,
        strict: bool,
        until: float | None,
        way: Way,
        workers: int,
        bar: Progress,
        on_evaluation: OnEvaluation | None,
        on_end: OnEnd | None = None,
        ray: str | None = None,
    ) -> None:
        self.members, self.places, self.observe = members, places, observe
        self.strict, self.until, self.way, self.workers = strict, until, way, workers
        self.ray = ray
        self.bar, self.on_evaluation, self.on_end = bar, on_evaluation, on_end
        self.runs: dict[int, Run] = {}
        self.stopped = False
        """Whether somebody interrupted, or the time is up."""
        self.asked = "asked for"
        """Why members go one by one that were not looked at."""
        self.where = ""
        """Where they are trained that go together, to be said after with how many."""
        self.errors: dict[int, Exception] = {}
        """Why members failed."""
        self._apart: list[int] = []
        """Members that are to be trained in other processes, each by itself."""
        self._crews: list[list[int]] = []
        """Those that are to be trained there together."""
        self._checked = set[Hashable]()
        self._written = set[Path]()
        """Folders in which the environment of the members stands."""
        self._shapes: dict[int, Hashable] = {}
        self._beginnings = Beginnings()
        self._changes: dict[int, str | None] = {}
        """Why members go by themselves of which a forward pass changes something in Python."""
        self._first: dict[Hashable, Ready] = {}
        """Of every shape a member that waits, after which others are prepared on the light road."""

    def train(self) -> list[Run]:
        """The runs, in the members' order; see `fit_population` for what is left out."""
        waiting: dict[int, Ready] = {}
        for index in range(len(self.members)):
            if self.stopped or self._left() == 0.0:
                break
            if self.way == "processes":
                self._apart.append(index)
                continue
            made = self._ready(index)
            if made is None:
                continue
            reason = self.asked
            if self.way in ("auto", "together"):
                reason = self._changes.get(index) or why_alone(made)
            if reason is None:
                waiting[index] = made
                self._first.setdefault(self._shapes[index], made)
            else:
                self._alone(index, made, reason)
        self._first.clear()
        for places in grouped({index: (self._shapes[index], made) for index, made in waiting.items()}):
            self._group({index: waiting.pop(index) for index in places})
        self._elsewhere()
        return self._result()

    def _result(self) -> list[Run]:
        """All runs there are; of a population whose time was up those before the first that is missing."""
        order = sorted(self.runs)
        if any(self.runs[index].status == "interrupted" for index in order):
            return [self.runs[index] for index in order]
        whole = next((i for i in range(len(self.members)) if i not in self.runs), len(self.members))
        return [self.runs[index] for index in range(whole)]

    def _left(self) -> float | None:
        """Seconds that are left; None without a limit."""
        return None if self.until is None else max(0.0, self.until - time.monotonic())

    def _ready(self, index: int) -> Ready | None:
        """The member before its first step; None where it fails and the population goes on."""
        problem, recipe = self.members[index]
        started = time.perf_counter()
        try:
            data = data_key(problem)
            if data not in self._checked:
                check_data(problem)
                self._checked.add(data)
            self._beginnings.back(problem)
            run = run_of(problem, recipe, self.places[index])
            model = built(run, problem, recipe)
            self._shapes[index] = shape = key(run, problem, model)
            like = self._first.get(shape)
            state = None if like is None else further(run, problem, like.state, model)
            if like is None or state is None:
                watched = Watched(problem, model)
                made = ready(run, self.observe, started=started, model=model)
                self._changes[index] = watched.why_alone()
                return made
            run.choices["observe"], state.batch = self.observe, like.state.batch
            return like._replace(state=state, started=started)
        except Exception as error:  # noqa: BLE001 (raised again where the population is strict)
            self._failed(index, error)
            return None

    def _failed(self, index: int, error: Exception) -> None:
        if self.strict:
            raise error
        self.errors[index] = error
        problem, recipe = self.members[index]
        facts = {"error": one_line(error)}
        self._ended(index, Run(problem=problem, recipe=recipe, status="failed", facts=facts))

    def _ended(self, index: int, run: Run) -> None:
        self.runs[index] = run
        self.stopped = self.stopped or run.status == "interrupted"
        self.bar.update(len(self.runs))
        if self.on_end is not None and run.status != "interrupted":
            self.on_end(index, run)

    # -- one by one ---------------------------------------------------------------------------------------

    def _alone(self, index: int, made: Ready, reason: str) -> None:
        """Train one member by itself, unless the population is over."""
        left = self._left()
        if self.stopped or left == 0.0:
            self.stopped = True
            return
        if (self.workers > 1 or self.ray) and self.way != "one by one":
            self._apart.append(index)
            return
        made.state.run.choices["population"] = f"one by one: {reason}"
        try:
            member = self._seated(index, made, left, made.products)
            run = through(member, made.started)
        except Exception as error:  # noqa: BLE001 (raised again where the population is strict)
            self._failed(index, error)
            return
        if run.facts.get("cut"):
            self.stopped = True
            return
        self._ended(index, run)

    def _seated(self, index: int, made: Ready, seconds: float | None, products: int) -> Member:
        folder = made.state.run.folder
        if folder is not None and folder.parent not in self._written:
            self._written.add(folder.parent)
            write_environment(folder.parent, made.state.run.environment)
        member = seated(made, Member, seconds=seconds, products=products)
        member.index, member.started, member.watching = index, made.started, self.on_evaluation
        return member

    def _elsewhere(self) -> None:
        """Train the members that wait for others who train; those that cannot be sent train here."""
        if self.stopped or not (self._apart or self._crews):
            return
        from downslope.training.population.foreman import GoneError, UnsentError

        for index in self._apart:
            self._beginnings.back(self.members[index][0])
        jobs = [self._job(each) for each in [*self._crews, *([i] for i in sorted(self._apart))]]
        refused: dict[int, str] = {}
        try:
            with contextlib.closing(self._sent(jobs)) as ends:
                for index, run in ends:
                    if isinstance(run, UnsentError):
                        refused[index] = str(run)
                    elif isinstance(run, Exception):
                        self._failed(index, run)
                    elif run is None:
                        self.stopped = True
                    else:
                        self._ended(index, run)
        except GoneError as error:
            self._left_behind(error)
        self.workers, self.ray = 1, None
        for each in self._crews:
            if each[0] in refused:
                made = {index: self._ready(index) for index in each}
                self._group({index: one for index, one in made.items() if one is not None})
        for index in sorted(set(self._apart) & set(refused)):
            self._again([index], refused[index])

    def _job(self, indices: Sequence[int]) -> Job:
        """Members as they are sent, to be trained together where they are several."""
        from downslope.training.population.hand import Job

        first, *others = (Job(i, *self.members[i], self.places[i], self.observe) for i in indices)
        return replace(first, others=tuple(others))

    def _sent(self, jobs: Sequence[Job]) -> Generator[tuple[int, Ended]]:
        how: dict[str, Any] = {"until": self.until, "on_evaluation": self.on_evaluation}
        if self.ray is not None:
            from downslope.training.population.ray_workers import run_on_ray

            return run_on_ray(jobs, self.ray, **how)
        from downslope.training.population.apart import run_apart

        return run_apart(jobs, self.workers, **how)

    def _left_behind(self, error: Exception) -> None:
        """Who had not ended when a cluster went away is interrupted, and can be begun again."""
        _log.warning("%s; what had ended is kept", error)
        for index in [*self._apart, *itertools.chain(*self._crews)]:
            if index not in self.runs:
                problem, recipe = self.members[index]
                facts = {"lost": str(error)}
                self._ended(index, Run(problem=problem, recipe=recipe, status="interrupted", facts=facts))

    # -- together -----------------------------------------------------------------------------------------

    def _group(self, made: dict[int, Ready]) -> None:
        """Train members of one shape: together where that is exact and pays, else one by one."""
        made = dict(sorted(made.items(), key=lambda item: str(kind(item[1].state))))
        others = self._others(list(made.values()))
        reason = self._why_not(made, others)
        if not isinstance(reason, Abreast):
            if reason.startswith(OTHERWISE):  # what it hangs on may have moved in the trial
                self._again(list(made), reason)
                return
            for index, each in made.items():
                self._alone(index, each, reason)
        elif len(made) > others > 1 and self._send(list(made.values()), others):
            reason.keep([])
            size, more = divmod(len(made), others)
            rest = iter(made)
            self._crews += [list(itertools.islice(rest, size + (place < more))) for place in range(others)]
        else:
            self._together(made, reason)

    def _why_not(self, made: dict[int, Ready], others: int) -> Abreast | str:
        """The members side by side, or why they go one by one."""
        if self.stopped or self._left() == 0.0:
            return "over"
        each = list(made.values())
        if len(each) < 2:
            return "no other member has its shape"
        apart = 1 if len(each) > others else others  # of more there are crews elsewhere too
        with choices.threads(self._threads(each)):
            if self.way == "auto" and known_to_lose(each, apart):
                return SLOWER
            try:
                abreast = Abreast(each)
            except Exception as error:  # noqa: BLE001 (models that cannot be copied, tensors of their own kind)
                return f"its model cannot be laid beside others: {one_line(error)}"
            reason = why_apart(abreast, each)
            if reason is None and self.way == "auto" and not pays(abreast, each, apart):
                reason = SLOWER
        if reason is None:
            return abreast
        abreast.keep([])
        return reason

    def _others(self, made: Sequence[Ready]) -> int:
        """How many of these members others train at a time."""
        if self.ray is None:
            return min(self.workers, choices.cores(), len(made))
        from downslope.training.population.foreman import GoneError
        from downslope.training.population.ray_workers import room_on_ray

        with contextlib.suppress(GoneError):  # told where its workers are asked for
            return max(1, room_on_ray(self.ray, [each.state.recipe for each in made]))
        return 1

    def _send(self, made: Sequence[Ready], crews: int) -> bool:
        """Whether crews elsewhere are sooner done; who asks for members together and for workers has both."""
        if self.way == "together":
            return True
        from downslope.training.population.apart import idle

        awake = self.ray is None and idle() >= crews
        with choices.threads(self._threads(made)):
            return pays_to_send(made, crews, AWAKE if awake else START)

    def _threads(self, made: Sequence[Ready]) -> int:
        return choices.choose_threads(sum(each.products for each in made), made[0].state.device)

    def _crew(self, made: dict[int, Ready], abreast: Abreast) -> tuple[list[Member], Crew]:
        """The members of one shape, seated, and what trains them."""
        products = sum(each.products for each in made.values())
        first = next(iter(made.values()))
        each_example = first.products / batches.length(first.state.batch)
        members: list[Member] = []
        for index, each in made.items():
            each.state.run.choices["population"] = f"together with {len(made) - 1} others{self.where}"
            one = each._replace(train=first.train, valid=first.valid)  # the same object for all
            members.append(self._seated(index, one, None, products))

        def going(share: float) -> None:
            self.bar.update(len(self.runs), f"{len(members)} train together, {share:.0%} of their steps done")

        return members, Crew(members, abreast, products=each_example, until=self.until, tell=going)

    def _together(self, made: dict[int, Ready], abreast: Abreast) -> None:
        members, crew = self._crew(made, abreast)
        try:
            with choices.threads(self._threads(list(made.values()))):
                crew.go()
        except Exception as error:  # noqa: BLE001 (each by itself then, and the one to blame raises it again)
            for member in members:
                member.forget()
            self._again(list(made), f"together it failed: {one_line(error)}")
            return
        except BaseException:
            for member in members:
                member.give_up("interrupted")
            raise
        for member in members:
            if member in crew.given_up:
                member.give_up("interrupted")
            else:
                self._ended(member.index, member.state.run)
        self.stopped = self.stopped or bool(crew.given_up)

    def _again(self, indices: Sequence[int], reason: str) -> None:
        """Train members from the start, one by one."""
        for index in sorted(indices):
            made = self._ready(index)
            if made is not None:
                self._alone(index, made, reason)
