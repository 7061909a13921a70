"""Dimensions against SciPy's distributions and arithmetic by hand."""

from __future__ import annotations

import math

import pytest
from scipy import stats

from downslope.core.errors import SpaceError
from downslope.core.space import choice, integer, log, one_minus, uniform, when

QUANTILES = [0.0, 0.1, 0.25, 0.5, 0.777, 0.999, 1.0]
EVERY = [
    log(1e-5, 1e-1),
    uniform(-2, 0.5),
    integer(16, 512),
    integer(3, 4096, log=True),
    choice("sgd", "adam", None, True, 1.5, (0.9, 0.99)),
    one_minus(log(1e-3, 1e-1)),
    when(integer(1, 3), optimizer="sgd"),
]


@pytest.mark.parametrize("u", QUANTILES)
def test_a_draw_is_the_quantile_of_scipys_distribution(u: float):
    assert log(1e-5, 1e-1).draw(u) == pytest.approx(stats.loguniform(1e-5, 1e-1).ppf(u), rel=1e-12)
    assert uniform(-2, 0.5).draw(u) == pytest.approx(stats.uniform(-2, 2.5).ppf(u), abs=1e-12)
    assert one_minus(log(1e-3, 1e-1)).draw(u) == pytest.approx(1 - 10 ** (-3 + 2 * u), abs=1e-12)


def test_each_whole_number_takes_an_equal_share_of_the_quantiles():
    drawn = [integer(1, 6).draw(i / 6000) for i in range(6000)]
    assert [drawn.count(face) for face in range(1, 7)] == [1000] * 6


def test_a_whole_number_in_logarithms_is_as_likely_as_its_cell_is_wide():
    drawn = [integer(1, 4, log=True).draw((i + 0.5) / 10000) for i in range(10000)]
    shares = [math.log((k + 0.5) / (k - 0.5)) / math.log(9) for k in range(1, 5)]
    assert [drawn.count(k) / 10000 for k in range(1, 5)] == pytest.approx(shares, abs=1e-3)


@pytest.mark.parametrize("dimension", EVERY, ids=lambda each: each.text())
def test_a_place_is_drawn_back(dimension):
    for u in QUANTILES:
        value = dimension.draw(u)
        back = dimension.draw(dimension.place(value))
        assert back == (pytest.approx(value, rel=1e-12) if isinstance(value, float) else value)
        assert type(back) is type(value)


def test_a_grid_goes_from_end_to_end_in_equal_steps():
    assert log(1e-4, 1).grid(5) == pytest.approx([1e-4, 1e-3, 1e-2, 1e-1, 1])
    assert uniform(0, 1).grid(3) == [0, 0.5, 1]
    assert integer(1, 3).grid(9) == [1, 2, 3]
    assert integer(16, 256, log=True).grid(5) == [16, 32, 64, 128, 256]
    assert choice("a", "b").grid(7) == ["a", "b"]
    assert uniform(0, 1).grid(1) == [0.5]
    assert one_minus(log(1e-3, 1e-1)).grid(3) == pytest.approx([0.999, 0.99, 0.9])


def test_both_ends_are_inside_whatever_the_rounding():
    for low, high in ((1e-5, 1e-1), (0.1, 0.7), (3e-7, 5.0)):
        assert log(low, high).draw(0.0) == low
        assert log(low, high).draw(1.0) == high


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: log(0, 1), "0 has no logarithm"),
        (lambda: log(-1, 1), "-1 has no logarithm"),
        (lambda: log(1, 1e-4), "reversed: the low end comes first, log(0.0001, 1)"),
        (lambda: uniform(0.5, 0.5), "empty: both ends are 0.5"),
        (lambda: uniform(0, float("inf")), "high=inf must be a finite number"),
        (lambda: uniform(float("nan"), 1), "low=nan must be a finite number"),
        (lambda: integer(5, 2), "reversed"),
        (lambda: integer(4, 4), "empty"),
        (lambda: integer(0, 9, log=True), "0 has no logarithm"),
        (lambda: integer(1.5, 9), "low=1.5 is no whole number"),  # pyright: ignore[reportArgumentType]
        (choice, "nothing to choose from"),
        (lambda: choice("a", "a"), "'a' is given twice"),
        (lambda: choice(math.sin), "is code"),
        (lambda: one_minus(choice(1, 2)), "must be of log(...) or uniform(...)"),
        (lambda: when(log(1e-3, 1)), "without a condition"),
        (lambda: uniform(0, 1).place(2.0), "lies outside of uniform:0.0:1.0"),
        (lambda: choice("a", "b").place("c"), "none of 'a', 'b'"),
    ],
)
def test_what_is_no_range_is_refused_in_one_line(make, told):
    with pytest.raises(SpaceError, match=r"^[^\n]*$") as caught:
        make()
    assert told in str(caught.value)


def test_true_and_one_are_two_options():
    two = choice(True, 1)
    assert two.place(True) == 0.25
    assert two.place(1) == 0.75
