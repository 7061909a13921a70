"""Fresh seeds against the winner's curse."""

from __future__ import annotations

import math
import random

import pytest
from scipy import stats

from downslope.tuning.confirmed import Confirmed, foremost, interval, winner
from downslope.tuning.trial import Trial


def test_the_interval_is_students():
    values = [0.91, 0.93, 0.9, 0.96, 0.92]
    low, high = stats.t.interval(0.95, 4, loc=sum(values) / 5, scale=stats.sem(values))
    assert interval(values) == pytest.approx((low, high))
    assert all(map(math.isnan, interval([1.0])))
    assert all(map(math.isnan, interval([1.0, math.inf])))


def test_the_winner_of_noise_is_seen_too_good_and_fresh_seeds_say_so():
    draws = random.Random(0)
    trials = [Trial(i, {"lr": i}, state="done", value=draws.gauss(0.5, 0.1)) for i in range(64)]
    top = foremost(trials, "max", 3)
    fresh = [
        Confirmed(t.number, t.values, t.value or 0, tuple(draws.gauss(0.5, 0.1) for _ in range(20)))
        for t in top
    ]
    assert all(each.curse > 0.05 for each in fresh)
    assert all(each.interval[0] < 0.5 < each.interval[1] for each in fresh)


def test_the_winner_is_the_best_over_fresh_seeds_and_none_that_diverged():
    a = Confirmed(0, {}, 0.1, (0.3, 0.3))
    b = Confirmed(1, {}, 0.2, (0.2, 0.25))
    c = Confirmed(2, {}, 0.05, (0.01, math.inf))
    assert winner([a, b, c], "min") is b
    assert winner([a, b], "max") is a
    assert c.mean == math.inf
    assert winner([], "min") is None


def test_equal_configurations_are_confirmed_once():
    trials = [Trial(i, {"lr": v}, state="done", value=float(v)) for i, v in enumerate([1, 2, 1, 3])]
    assert [each.number for each in foremost(trials, "min", 3)] == [0, 1, 3]
