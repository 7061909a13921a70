"""Halving without a barrier: what it promotes, what hangs on the order, and that workers do not wait."""

from __future__ import annotations

import math
import threading

import numpy as np
import pytest

from downslope.core.errors import InputError
from downslope.tuning.asynchronous import Asynchronous, Book
from downslope.tuning.halving import Halving
from tests.tuning.curves import Curves

N = 243


def promoted(order: list[int]) -> list[int]:
    """Who leaves the first rung, if members come in this order and a member's loss is its number."""
    book = Book([1, 3], 3)
    for member in order:
        book.tell(member, 0, float(member))
        while book.promotion() is not None:
            pass
    return book.promoted[0]


def test_one_worker_promotes_as_the_paper_says() -> None:
    """Losses 3, 1, 2, 0 in turn with eta 2: traced by hand through algorithm 2."""
    losses = [3.0, 1.0, 2.0, 0.0]
    curves = Curves(lambda member, units: losses[member] + 1 / units)
    found = Asynchronous(most=4, eta=2).run(curves.train, curves.ask, 4)
    assert found.best == 3
    assert curves.calls == [
        ((0,), 1), ((1,), 1), ((1,), 2), ((2,), 1), ((3,), 1), ((3,), 2), ((3,), 4)
    ]  # fmt: skip


def algorithm_2(rungs: list[dict[int, float]], promoted: list[set[int]], eta: int) -> tuple[int, int] | None:
    """``get_job`` of Li et al. 2020, line by line: a member and the rung it goes to; None for a new one."""
    for k in range(len(rungs) - 2, -1, -1):
        count = len(rungs[k]) // eta
        candidates = sorted(rungs[k], key=lambda member: rungs[k][member])[:count]
        promotable = [member for member in candidates if member not in promoted[k]]
        if promotable:
            promoted[k].add(promotable[0])
            return promotable[0], k + 1
    return None


@pytest.mark.parametrize("eta", [2, 3, 4])
def test_every_job_is_that_of_algorithm_2(eta: int) -> None:
    """With losses that come in at random, from several workers at once."""
    for seed in range(20):
        draw = np.random.default_rng((eta, seed))
        units = [eta**k for k in range(4)]
        book, under_way, begun = Book(units, eta), list[tuple[int, int]](), 0
        rungs, promoted = [dict[int, float]() for _ in units], [set[int]() for _ in units]
        for _ in range(120):
            job = book.promotion()
            assert job == algorithm_2(rungs, promoted, eta)
            if job is None:
                job, begun = (begun, 0), begun + 1
            under_way.append(job)
            if len(under_way) == 4:
                member, rung = under_way.pop(int(draw.integers(4)))
                loss = float(draw.random())
                book.tell(member, rung, loss)
                rungs[rung][member] = loss


def test_the_best_is_promoted_whatever_the_order() -> None:
    for seed in range(50):
        order = np.random.default_rng(seed).permutation(N).tolist()
        assert 0 in promoted(order)


def test_about_root_n_too_many_are_promoted_in_a_random_order() -> None:
    """Li et al. 2020: of n about sqrt(n) are promoted that a barrier would have left."""
    extra = [
        len(promoted(np.random.default_rng(seed).permutation(N).tolist())) - N // 3 for seed in range(50)
    ]
    assert 0 < np.mean(extra) <= 2 * math.sqrt(N)


def test_the_order_decides_who_is_promoted_unlike_with_a_barrier() -> None:
    rising, falling = list(range(N)), list(range(N))[::-1]
    assert len(promoted(rising)) == N // 3
    assert len(promoted(falling)) > N // 2
    plan = Halving(most=3).plan(N)
    assert plan == [(N, 1), (N // 3, 3)]


def test_the_best_of_curves_that_do_not_cross_wins_with_any_number_of_workers() -> None:
    for workers in (1, 4):
        curves = Curves(lambda member, units: (member * 11) % 27 + 1 / units)
        found = Asynchronous(most=27).run(curves.train, curves.ask, 27, workers=workers)
        assert found.best == 0
        assert curves.begun == 27
        assert curves.spent < 27 * 27 / 2


def test_workers_do_not_wait_for_a_slow_one() -> None:
    """Member 0 trains until all others are through: with a barrier nothing would be promoted before."""
    others = threading.Event()
    lock, count = threading.Lock(), [0]

    def train(members, units):
        (member,) = members
        if member == 0:
            assert others.wait(5)
        with lock:
            count[0] += 1
            if count[0] == 10:  # eight others begin, two of them are promoted
                others.set()
        return [float(member)]

    found = Asynchronous(most=3).run(train, iter_ask(), 9, workers=2)
    first = found.rungs[0]
    assert set(first.members) == set(range(9))
    assert found.rungs[1].members[:2] == (1, 2)
    assert found.best == 0


def iter_ask():
    numbers = iter(range(1000))
    return lambda n: [next(numbers) for _ in range(n)]


def test_what_is_not_finite_is_never_promoted() -> None:
    curves = Curves(lambda member, units: math.nan if member % 3 else 1.0 + member)
    found = Asynchronous(most=9).run(curves.train, curves.ask, 9)
    assert found.best == 0
    assert all(curves.had[member] == 1 for member in (1, 2, 4, 5, 7, 8))


def test_all_broken_ends_without_a_best() -> None:
    curves = Curves(lambda member, units: math.nan)
    assert Asynchronous(most=9).run(curves.train, curves.ask, 9).best is None


def test_what_training_raises_ends_it() -> None:
    def train(members, units):
        raise InputError("no such data")

    with pytest.raises(InputError, match="no such data"):
        Asynchronous(most=9).run(train, iter_ask(), 9, workers=2)


def test_a_budget_that_ends_begins_nobody_more() -> None:
    curves = Curves(lambda member, units: float(member))
    found = Asynchronous(most=9).run(curves.train, lambda n: curves.ask(n) if curves.begun < 5 else [], 100)
    assert set(found.rungs[0].members) == set(range(5))


@pytest.mark.parametrize("workers", [1, 3])
def test_of_few_members_the_leader_comes_to_the_end(workers: int) -> None:
    """Four of eta 3 earn one promotion, and nobody the last rung: the best goes on to it all the same."""
    curves = Curves(lambda member, units: [3.0, 0.0, 2.0, 1.0][member] + 1 / units)
    found = Asynchronous(most=27).run(curves.train, curves.ask, 4, workers=workers)
    assert found.best == 1
    assert curves.had[1] == 27
    assert sum(units == 27 for units in curves.had.values()) == 1
