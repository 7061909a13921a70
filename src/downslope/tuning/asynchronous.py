"""Asynchronous successive halving: promotions without a barrier, for workers that do not wait."""

from __future__ import annotations

import contextlib
import contextvars
import itertools
import math
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from downslope.tuning.halving import Halving
from downslope.tuning.rungs import Ask, Ladder, Rung, Stopped, Train, check_units, ranked


@dataclass
class Book:
    """Who reached which rung with which loss, and who was promoted from it.

    Args:
        units: Units of training at each rung, rising.
        eta: One in how many goes on.
    """

    units: list[int]
    eta: int
    members: list[list[int]] = field(default_factory=list[list[int]])
    values: list[list[float]] = field(default_factory=list[list[float]])
    promoted: list[list[int]] = field(default_factory=list[list[int]])
    waiting: int = 0
    """How many losses are still to come in."""

    def __post_init__(self) -> None:
        for each in (self.members, self.values, self.promoted):
            each.extend([] for _ in self.units)

    def tell(self, member: int, rung: int, value: float) -> None:
        """Take note that `member` has reached `rung` with this loss."""
        self.members[rung].append(member)
        self.values[rung].append(value)

    def promotion(self) -> tuple[int, int] | None:
        """A member and the rung that it should train on to; None where nobody has earned one.

        From the highest rung down: among the best ``floor(reached / eta)`` of a rung the first that has not
        been promoted. It counts as promoted from then on.
        """
        for rung in range(len(self.units) - 2, -1, -1):
            share = len(self.members[rung]) // self.eta
            for member, value in self._ordered(rung)[:share]:
                if math.isfinite(value) and member not in self.promoted[rung]:
                    self.promoted[rung].append(member)
                    return member, rung + 1
        return None

    def leader(self) -> tuple[int, int] | None:
        """The best of the highest rung, and the next, as long as nobody has come to the end.

        So a search of few members ends with one that was trained to the end. It counts as promoted.
        """
        highest = max((rung for rung, members in enumerate(self.members) if members), default=0)
        if highest == len(self.units) - 1:
            return None
        for member, value in self._ordered(highest)[:1]:
            if math.isfinite(value) and member not in self.promoted[highest]:
                self.promoted[highest].append(member)
                return member, highest + 1
        return None

    def _ordered(self, rung: int) -> list[tuple[int, float]]:
        known = dict(zip(self.members[rung], self.values[rung], strict=True))
        return [(member, known[member]) for member in ranked(self.members[rung], self.values[rung])]

    def ladder(self) -> Ladder:
        """All rungs; those at which somebody was."""
        found: list[Rung] = []
        for rung, units in enumerate(self.units):
            last = rung == len(self.units) - 1
            kept = [m for m, value in self._ordered(rung)[:1] if math.isfinite(value)]
            going = tuple(kept if last else self.promoted[rung])
            if self.members[rung]:
                found.append(Rung(units, tuple(self.members[rung]), tuple(self.values[rung]), going))
        return Ladder(tuple(found))


@dataclass(frozen=True, kw_only=True)
class Asynchronous:
    """Promote a member once it is among the best ``1 / eta`` of those that have reached its rung so far.

    A worker that is free takes the promotion of the highest rung that has one, and begins a new member
    where none has: nobody waits. The price: **who is promoted hangs on the order in which losses come in**.
    Of n members about ``n / eta + sqrt(n)`` leave the first rung, not ``n / eta``; with workers of
    different speeds two searches from one seed differ. Who ranks first at every rung is always promoted in
    the end. At the end, if nobody has earned the last rung, who leads goes
    on to it. Where all members of a rung train together anyway, use `Halving`.

    Args:
        most: Units of training (epochs of the recipe, or its steps) that the last ones get, from 1.
        least: Units until the first rung, in [1, most].
        eta: One in how many goes on, from 2.

    Raises:
        InputError: an argument outside its domain.

    Source: Li, Jamieson, Rostamizadeh, Gonina, Ben-Tzur, Hardt, Recht and Talwalkar 2020, "A system for
    massively parallel hyperparameter tuning" (ASHA), algorithm 2.
    """

    most: int
    least: int = 1
    eta: int = 3

    def __post_init__(self) -> None:
        Halving(most=self.most, least=self.least, eta=self.eta)

    @property
    def rungs(self) -> list[int]:
        """Units at each rung, as of `Halving`."""
        return Halving(most=self.most, least=self.least, eta=self.eta).rungs

    def run(self, train: Train, ask: Ask, trials: int, *, workers: int = 1) -> Ladder:
        """Begin `trials` members and promote until nobody has earned it.

        Args:
            train: Trains one member on and gives its loss; from as many threads as there are workers.
            ask: Begins a member; from this thread.
            trials: How many begin, from 1.
            workers: How many train at a time, from 1.

        Raises:
            InputError: an argument outside its domain; what training raises ends it.
        """
        book = Book(self.rungs, self.eta)
        jobs: Iterator[tuple[int, int] | None] = _jobs(book, ask, check_units("trials", trials))
        if check_units("workers", workers) == 1:
            with contextlib.suppress(Stopped):
                while (job := next(jobs)) is not None:
                    book.tell(*job, _one(train, job[0], book.units[job[1]]))
            return book.ladder()
        going: dict[Future[float], tuple[int, int]] = {}
        with ThreadPoolExecutor(workers) as pool:
            while True:
                while len(going) < workers and (job := next(jobs)) is not None:
                    run = contextvars.copy_context().run
                    going[pool.submit(run, _one, train, job[0], book.units[job[1]])] = job
                    book.waiting = len(going)
                if not going:
                    return book.ladder()
                done, _ = wait(going, return_when=FIRST_COMPLETED)
                for each in sorted(done, key=lambda future: going[future]):
                    member, rung = going.pop(each)
                    try:
                        book.tell(member, rung, each.result())
                    except Stopped:
                        jobs = itertools.repeat(None)
                book.waiting = len(going)


def _jobs(book: Book, ask: Ask, trials: int) -> Iterator[tuple[int, int] | None]:
    """Promotions first, then new members, then who leads, to the end; None where there is nothing now."""
    while True:
        job = book.promotion()
        if job is None and trials > 0:
            begun = ask(1)
            trials = trials - 1 if begun else 0
            job = (begun[0], 0) if begun else None
        if job is None and not book.waiting:
            job = book.leader()
        yield job


def _one(train: Train, member: int, units: int) -> float:
    (value,) = train([member], units)
    return float(value)
