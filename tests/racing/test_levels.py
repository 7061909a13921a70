"""Levels, differences and times, against SciPy and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from downslope.racing.levels import differences, interval, level_of
from downslope.racing.measure import Measure
from downslope.racing.outcome import Outcome
from downslope.racing.protocol import Protocol
from downslope.racing.times import first_reached, median_time, of_reference

INF, NAN = math.inf, math.nan
LOSS, ACCURACY = Measure("valid_loss", "loss", False), Measure("valid_metric", "accuracy", True)


def test_the_interval_is_students() -> None:
    values = np.random.default_rng(0).normal(size=6)
    low, high = stats.t.interval(0.95, 5, loc=values.mean(), scale=stats.sem(values))
    assert interval(values.tolist()) == pytest.approx((values.mean(), low, high))
    assert interval([1.0])[0] == 1.0
    assert math.isnan(interval([1.0])[1])


def test_lost_seeds_are_counted_beside_the_mean_and_are_the_worst_in_the_median() -> None:
    assert level_of([1.0, NAN, 3.0]).mean == 2.0
    assert (level_of([1.0, NAN, 3.0]).lost, level_of([1.0, NAN, 3.0]).median) == (1, 3.0)
    assert level_of([0.9, NAN, 0.7], up=True).median == 0.7
    assert math.isnan(level_of([1.0, NAN]).median)


def test_of_two_that_diverged_nothing_is_said() -> None:
    found = differences([1.0, INF, 1.0, INF], [2.0, 1.0, INF, INF])
    assert found == pytest.approx([1.0, -INF, INF, NAN], nan_ok=True)


def test_an_interval_ends_where_the_metric_does() -> None:
    assert level_of([1.0, 0.98, 1.0, 1.0], within=(0.0, 1.0)).high == 1.0
    assert level_of([1.0, 0.98, 1.0, 1.0]).high > 1.0


def _run(levels: list[float], level: float) -> Outcome:
    steps = tuple(10 * i for i in range(len(levels)))
    return Outcome(
        problem="p", contestant="c", phase="race", number=0, seed=0, status="done", level=level,
        steps=steps, levels=tuple(levels),
    )  # fmt: skip


def test_the_target_is_reached_at_the_first_evaluation_at_it_or_beyond() -> None:
    assert first_reached(_run([0.1, 0.5, 0.4, 0.9], 0.9), ACCURACY, 0.5) == 10
    assert first_reached(_run([2.0, 1.5, NAN, 0.2], 0.2), LOSS, 1.0) == 30
    assert first_reached(_run([2.0, NAN], NAN), LOSS, 1.0) == INF


def test_the_median_time_is_infinite_once_half_did_not_arrive() -> None:
    assert median_time([3.0, 1.0, INF]) == 3.0
    assert median_time([3.0, 1.0, INF, INF]) == INF
    assert median_time([4.0, 2.0]) == 3.0


def test_the_way_of_a_reference_is_followed_in_its_own_direction() -> None:
    found = of_reference(
        "best", [_run([0.1, 0.9], 0.9), _run([0.1, 0.7], 0.7), _run([0.1, 0.8], 0.8)], ACCURACY, 0.5
    )
    assert found.level == pytest.approx(0.1 + 0.5 * 0.7)
    assert of_reference("lost", [_run([1.0], NAN)], LOSS).source == "none"


def test_a_winner_among_more_is_tested_harder() -> None:
    """A winner that is not the one best has beaten by chance one at least as good: r sides of alpha' / 2."""
    protocol = Protocol(seeds=8)
    assert [protocol.test(r).alpha for r in (2, 4, 10)] == pytest.approx([0.05, 0.025, 0.01])
    random, wins = np.random.default_rng(0), 0
    test = protocol.test(3)
    for levels in random.normal(size=(400, 3, 8)):
        pairs = {
            (i, j): test.verdict((levels[j] - levels[i]).tolist())
            for i in range(3)
            for j in range(3)
            if i != j
        }
        wins += any(all(pairs[i, j] == "first" for j in range(3) if j != i) for i in range(3))
    assert wins / 400 <= 0.05
