"""Bergstra and Bengio's point: where few dimensions matter, random search finds them and a grid does not."""

from __future__ import annotations

import math

import pytest

from downslope.core.errors import InputError
from downslope.tuning.low_dimension import low_dimension


@pytest.mark.parametrize(("dimensions", "trials", "mattering", "side"), [(3, 64, 1, 0.05), (3, 125, 2, 0.15)])
def test_both_hit_as_often_as_computed_by_hand(dimensions, trials, mattering, side):
    found = low_dimension(trials, dimensions, mattering, side, repeats=400, seed=1)
    for share, by_hand in ((found.random, found.random_by_hand), (found.grid, found.grid_by_hand)):
        assert abs(share - by_hand) < 4 * math.sqrt(by_hand * (1 - by_hand) / 400)


def test_one_dimension_of_three_that_matters_is_found_by_random_search_and_not_by_a_grid():
    found = low_dimension(64, 3, 1, 0.05, repeats=200)
    assert found.random_by_hand == pytest.approx(1 - 0.95**64)  # 0.96: as if the other two were not there
    assert found.grid_by_hand == pytest.approx(2 * 0.05 / 0.95)  # 0.11: two of its four values can be inside
    assert found.random > 0.9
    assert found.grid < 0.2
    assert len({point[0] for point in found.random_points}) == 64
    assert len({point[0] for point in found.grid_points}) == 4


def test_the_price_of_a_grid_grows_with_dimensions_that_do_not_matter():
    few, many = (low_dimension(3**d, d, 1, 0.2, repeats=1) for d in (2, 4))
    assert many.grid_by_hand == few.grid_by_hand  # nine times the trials and nothing more
    assert 1 - many.random_by_hand == pytest.approx((1 - few.random_by_hand) ** 9)


@pytest.mark.parametrize("wrong", [{"trials": 65}, {"mattering": 4}, {"side": 0.5}, {"trials": 8}])
def test_what_is_no_such_objective_is_refused(wrong):
    with pytest.raises(InputError):
        low_dimension(**{"trials": 64, "dimensions": 3} | wrong)


def test_it_reads_as_a_sentence():
    assert str(low_dimension(64, 3, 1, 0.05, repeats=50)).startswith(
        "64 trials in 3 dimensions, of which 1 matters: random search finds 0.9"
    )
