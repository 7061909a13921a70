"""Traces: intervals that cover, a subspace where it pays, and the limits of both."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from downslope.core.errors import InputError
from downslope.terrain.spectrum import diagonal, trace
from downslope.terrain.spectrum.estimate import estimated
from tests.terrain.spectrum.matrices import Matrix, turned

STEPS = torch.arange(150, dtype=torch.float64)
SPECTRA = {
    "flat": 1 + 0.2 * torch.sin(STEPS),
    "decaying": 0.9**STEPS,
    "few": torch.cat([torch.tensor([9.0, 5.0, 2.0]), 0.01 * torch.ones(147)]),
    "indefinite": torch.linspace(-1, 1.5, 150),
}
TRIALS = 200


@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("tol", [0.3, 0.05])
def test_the_interval_covers_the_truth_in_95_percent_of_200_trials(name, tol):
    operator = turned(SPECTRA[name])
    truth = float(operator.matrix.trace())
    found = [trace(operator, tol=tol, steps=80, seed=seed) for seed in range(TRIALS)]
    covered = sum(each.low - 1e-9 <= truth <= each.high + 1e-9 for each in found)
    assert covered >= 0.95 * TRIALS
    # And no wider than what was asked for, unless the products ran out.
    assert all(each.error <= tol * abs(each.value) or each.products >= 64 for each in found)


def test_skewed_samples_widen_the_interval():
    draw = np.random.default_rng(0)
    covered = 0
    for _ in range(600):
        samples = draw.chisquare(1, 16)
        found = estimated(samples, 0.0, 16)
        covered += found.low <= 1 <= found.high
    assert covered >= 0.95 * 600  # by Student's interval alone 0.94


def test_the_standard_error_is_the_deviation_over_seeds():
    operator = turned(SPECTRA["indefinite"])
    found = [trace(operator, tol=1e-3, steps=64, seed=seed, method="hutchinson") for seed in range(TRIALS)]
    seen = torch.tensor([each.value for each in found]).std()
    claimed = torch.tensor([each.stderr for each in found]).mean()
    assert float(seen / claimed) == pytest.approx(1, abs=0.2)


def test_a_subspace_is_learnt_where_it_pays_and_only_there():
    few, flat = turned(SPECTRA["few"]), turned(SPECTRA["flat"])
    plain = trace(few, tol=0.02, steps=140, method="hutchinson")
    chosen = trace(few, tol=0.02, steps=140)
    assert chosen.products < 60 <= plain.products
    assert chosen.error < 0.02 * chosen.value < plain.error
    assert trace(flat, tol=0.05).products == 16


def test_a_low_rank_is_known_exactly_by_hutch_plus_plus():
    operator = turned(torch.cat([torch.tensor([7.0, -2.0, 1.0]), torch.zeros(97)]))
    found = trace(operator, tol=0.01)
    assert found.value == pytest.approx(6, abs=1e-9)
    assert found.error < 1e-9


def test_a_diagonal_is_known_exactly_by_any_signs():
    found = trace(Matrix(torch.diag(torch.linspace(-1, 4, 60))), tol=0.01)
    assert found.value == pytest.approx(90, rel=1e-6)
    assert found.error < 1e-4
    assert found.products == 16


@pytest.mark.parametrize("size", [1, 2, 16, 40])
def test_a_small_operator_is_summed_exactly(size):
    operator = turned(torch.linspace(-1, 1.001, size), seed=1)
    found = trace(operator, tol=1e-6)
    assert found.value == pytest.approx(float(operator.matrix.trace()), abs=1e-12)
    assert (found.probes, found.products) == (0, operator.count)
    assert operator.count == size
    assert 0 < found.stderr < 1e-12 * size
    assert found.low <= float(operator.matrix.trace()) <= found.high


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("spectrum", ["few", "flat", "signs"])
def test_no_more_products_than_rows_and_an_interval_that_holds_the_rounding(spectrum, dtype):
    values = {
        "few": torch.cat([torch.tensor([50.0, -20.0, 9.0]), 0.05 * torch.linspace(-1, 1, 57)]),
        "flat": torch.linspace(1, 2, 60),
        "signs": torch.linspace(-1, 1.02, 60),
    }[spectrum]
    matrix = turned(values).matrix.to(dtype)
    truth, exact = float(matrix.double().trace()), 0
    for seed in range(20):
        for tol in (0.3, 0.1, 0.001):
            operator = Matrix(matrix)
            found = trace(operator, tol=tol, seed=seed)
            assert found.products == operator.count <= 60
            exact += found.probes == 0
            assert found.probes or found.low <= truth <= found.high
            assert found.probes or found.error < (1e-3 if dtype is torch.float32 else 1e-11)
    assert exact >= 20


def test_the_diagonal_takes_no_more_products_than_rows_either():
    for seed in range(10):
        operator = turned(torch.linspace(-1, 1.02, 60))
        found = diagonal(operator, tol=0.01, seed=seed)
        assert found.products == operator.count <= 60
        assert torch.allclose(found.values, operator.matrix.diagonal(), atol=1e-12)


def test_what_is_not_finite_gives_no_number():
    assert math.isnan(trace(Matrix(torch.full((50, 50), math.nan))).value)


@pytest.mark.parametrize("given", [{"tol": 0.0}, {"tol": 1.0}, {"steps": 15}])
def test_an_argument_outside_its_domain_is_told(given):
    with pytest.raises(InputError, match="tol must lie in"):
        trace(turned(torch.ones(40)), **given)
