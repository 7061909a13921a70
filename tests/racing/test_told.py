"""A race as text: every figure says what it is of, and none contradicts another."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

import downslope as ds
from downslope.racing.entry import Entry
from downslope.racing.measure import Measure
from downslope.racing.outcome import Outcome
from downslope.racing.protocol import Protocol
from downslope.racing.result import Race
from downslope.racing.times import Target, looks, paces_of

ACCURACY = Measure("valid_metric", "accuracy", True, (0.0, 1.0))


def entry(who: str, levels: Sequence[float], reached: Sequence[float]) -> Entry:
    """Runs of 40 steps, judged every 10, that get to 0.5 at `reached`."""
    raced = [
        Outcome(
            problem="p", contestant=who, phase="race", number=i, seed=i, status="done", level=level,
            steps=(0, 10, 20, 30, 40), levels=tuple(0.6 if s >= at else 0.1 for s in (0, 10, 20, 30, 40)),
        )
        for i, (level, at) in enumerate(zip(levels, reached, strict=True))
    ]  # fmt: skip
    return Entry(
        problem="p", contestant=who, measure=ACCURACY, target=Target(0.5, "given", "given"),
        recipe=ds.Recipe(), raced=raced, step_seconds=0.1, rounds=(0.1, 0.1),
    )  # fmt: skip


NEVER = math.inf


def race_of(*entries: Entry, by: str = "level") -> Race:
    return Race(protocol=Protocol(seeds=8, by=by), trials=0, entries=entries)  # type: ignore[arg-type]


def test_where_the_medians_are_never_what_is_said_is_who_got_there() -> None:
    sgd = entry("sgd", [0.3] * 8, [NEVER] * 8)
    adam = entry("adam", [0.5] * 8, [10, 20, 20, 30, *[NEVER] * 4])
    found = race_of(sgd, adam, by="steps")
    assert found.ranking().order == ("adam", "sgd")
    pair = found.paired("adam", "sgd")
    assert (pair.pairs, pair.lost) == (0, (4, 8))
    assert math.isnan(pair.mean)
    said = found.table()
    assert "adam against sgd: undecided; adam is ahead: there is no seed on which both got there" in said
    assert "never there on 4 seeds, sgd on 8" in said
    assert "  4/8  " in said
    assert "  0/8  " in said


def test_an_interval_of_a_pair_agrees_with_what_is_decided() -> None:
    """By Student's t this interval would lie below zero, beside a verdict that says undecided."""
    a = entry("a", [0.50, 0.52, 0.49, 0.51, 0.50, 0.53, 0.48, 0.50], [10] * 8)
    b = entry("b", [0.60, 0.55, 0.50, 0.58, 0.49, 0.61, 0.57, 0.49], [10] * 8)
    found = race_of(a, b).paired("b", "a")
    assert found.verdict == "undecided"
    assert found.low <= 0 <= found.high
    assert found.sure == pytest.approx(0.95)
    assert "evidence" in race_of(a, b).table()
    assert "95 %: " in race_of(a, b).table()


def test_the_order_is_by_what_the_table_shows() -> None:
    odd = entry("odd", [0.9, 0.9, 0.9, 0.9, 0.9, 0.0, 0.0, 0.0], [10] * 8)
    even = entry("even", [0.8] * 8, [10] * 8)
    found = race_of(odd, even)
    assert found.entry("even").level.mean > found.entry("odd").level.mean
    assert found.ranking().order == ("even", "odd")
    assert "order, by mean level: even, odd" in found.table()


def few(seeds: int) -> str:
    """Two contestants of which the better one is better on every seed, and one that equals the worse."""
    draws = [0.05 * i for i in range(seeds)]
    a, b, c = ("adam", 0.5), ("sgd", 0.3), ("gd", 0.3)
    of = [entry(who, [level + x for x in draws], [10] * seeds) for who, level in (a, b, c)]
    protocol = Protocol(seeds=seeds, early=False)
    return Race(protocol=protocol, trials=0, entries=tuple(of)).table()


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_of_fewer_seeds_than_can_decide_no_share_of_draws_is_told(seeds: int) -> None:
    """Draws of so few seeds agree whatever others would have shown: two that are alike do one time in two."""
    said = few(seeds)
    assert "seeds cannot decide" in said
    assert "drawn anew" not in said
    assert "100 %" not in said


def test_a_share_of_draws_says_of_how_many_seeds_it_is_and_none_is_a_hundred_per_cent() -> None:
    said = few(8)
    assert "first where these 8 seeds are drawn anew, 2000 times: adam always, sgd never, gd never" in said
    assert "100 %" not in said
    assert " 0 %" not in said


def test_those_that_nothing_tells_apart_stand_with_an_equals_sign() -> None:
    assert "order, by mean level: adam, sgd = gd\n" in few(8)
    assert "this order" not in few(8)
    odd = entry("odd", [0.9, 0.9, 0.9, 0.9, 0.9, 0.0, 0.0, 0.0], [10] * 8)
    said = race_of(odd, entry("even", [0.8] * 8, [10] * 8)).table()
    assert "order, by mean level: even, odd\n" in said
    assert "; this order " in said


def test_what_times_are_known_to_is_told() -> None:
    found = race_of(entry("a", [0.5] * 8, [10] * 8), entry("b", [0.5] * 8, [20] * 8))
    assert looks(found.entry("a").raced) == 10
    assert "known to 10 steps" in found.table()
    assert looks([]) is None


def test_paces_that_cannot_be_told_apart_are_one() -> None:
    found = paces_of({"a": [1.0, 1.2, 0.9], "b": [1.1, 1.0, 1.3], "c": [3.0, 3.1, 2.9]})
    assert found == {"a": 1.0, "b": 1.0, "c": 3.0}
