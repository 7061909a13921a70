"""Ranking stability, against every resample there is, and against what must be so."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.stats import kendalltau

from downslope.core.errors import InputError
from downslope.racing.ranking import ranked, tau


def test_the_share_of_firsts_is_that_of_all_resamples() -> None:
    """All 4^4 resamples of four seeds by hand, against 6,000 drawn."""
    costs = np.asarray([[1.0, 4.0, 2.0, 9.0], [2.0, 3.0, 3.0, 1.0]])
    wins = 0.0
    for chosen in itertools.product(range(4), repeat=4):
        a, b = np.median(costs[:, chosen], axis=1)
        wins += 1.0 if a < b else 0.5 if a == b else 0.0
    found = ranked(["a", "b"], costs, draws=6_000)
    assert found.first["a"] == pytest.approx(wins / 4**4, abs=0.025)
    assert sum(found.first.values()) == pytest.approx(1.0)


def test_what_never_overlaps_keeps_its_order_and_what_is_equal_does_not() -> None:
    random = np.random.default_rng(0)
    apart = random.normal(size=(3, 8)) + 100 * np.arange(3)[:, None]
    found = ranked(["x", "y", "z"], apart)
    assert (found.order, found.same, found.tau) == (("x", "y", "z"), 1.0, 1.0)
    equal = ranked(["x", "y", "z"], random.normal(size=(3, 8)))
    assert equal.same < 0.9
    assert equal.tau < 0.95


def test_one_that_diverges_in_half_of_its_seeds_comes_last() -> None:
    costs = [[0.0, math.inf, 0.0, math.inf], [5.0, 6.0, 7.0, 8.0]]
    assert ranked(["bold", "slow"], costs).order == ("slow", "bold")
    assert ranked(["bold", "slow"], [[0.0, math.inf, 0.0, 0.0], costs[1]]).order == ("bold", "slow")


def test_tau_without_ties_is_scipys() -> None:
    random = np.random.default_rng(1)
    a, b = random.permutation(7), random.permutation(7)
    assert tau(a, b) == pytest.approx(kendalltau(a, b).statistic)


def test_a_shape_that_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match="shape"):
        ranked(["a", "b"], [[1.0, 2.0]])


def test_this_order_is_never_more_frequent_than_its_first() -> None:
    costs = [[1.0, 1.0, 2.0, 2.0], [1.0, 1.0, 2.0, 2.0], [1.0, 2.0, 1.0, 2.0]]
    for by in ("mean", "median"):
        found = ranked(["a", "b", "c"], costs, by=by)
        assert found.same <= found.first[found.order[0]]
    assert ranked(["a", "b"], costs[:2]).same == 0.5


def test_where_both_medians_are_never_who_got_there_more_often_is_ahead() -> None:
    never = [math.inf] * 8
    assert ranked(["sgd", "adam"], [never, [10.0, 20.0, 30.0, 40.0, *never[:4]]]).order == ("adam", "sgd")


def test_by_the_mean_one_far_out_counts_and_one_lost_counts_more() -> None:
    costs = [[1.0, 1.0, 1.0, 50.0], [2.0, 2.0, 2.0, 2.0], [0.0, 0.0, 0.0, math.inf]]
    assert ranked(["odd", "even", "lost"], costs, by="mean").order == ("even", "odd", "lost")
    assert ranked(["odd", "even", "lost"], costs, by="median").order == ("lost", "odd", "even")
