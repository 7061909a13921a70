"""Condition numbers of matrices whose own is known, and bounds where it cannot be."""

from __future__ import annotations

import math

import pytest
import torch

from downslope.terrain.spectrum import condition, extremes
from tests.terrain.spectrum.matrices import Matrix, turned


@pytest.mark.parametrize("sign", [1, -1])
def test_a_definite_operator_has_the_ratio_of_its_ends(sign):
    found = condition(extremes(turned(sign * torch.linspace(0.5, 50, 120)), 1, 1, tol=1e-4))
    assert found.value == pytest.approx(100, rel=1e-3)
    assert found.low <= 100 <= found.high < 101
    assert not found.bound


def test_an_indefinite_one_has_a_lower_bound():
    values = torch.linspace(-3, 5, 200)
    found = condition(extremes(turned(values), 2, 2, tol=1e-4))
    assert found.bound
    assert 1 <= found.low <= 5 / float(values.abs().min())
    assert found.high == math.inf


def test_a_singular_one_is_bounded_from_below_and_nothing_else():
    found = condition(
        extremes(turned(torch.cat([torch.linspace(1, 9, 50), torch.zeros(50)])), 1, 1, tol=1e-4)
    )
    assert found.bound
    assert found.low > 1e4
    assert found.high == math.inf


def test_a_search_cut_short_bounds_from_below():
    found = condition(extremes(turned(torch.logspace(-6, 2, 200)), 1, 1, steps=20))
    assert found.bound
    assert found.value <= 1e8


def test_a_whole_spectrum_knows_the_smallest_magnitude_inside():
    found = condition(extremes(turned(torch.tensor([-4.0, -0.5, 1.0, 2.0])), 4, 0))
    assert found.value == pytest.approx(8)
    assert not found.bound


def test_nothing_finite_has_none():
    assert math.isnan(condition(extremes(Matrix(torch.full((9, 9), math.nan)))).value)
