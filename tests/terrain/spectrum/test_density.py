"""Densities within their stated error of dense float64 spectra, and of laws that are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import ndtr

from downslope.core.errors import InputError
from downslope.terrain.spectrum import density
from tests.terrain.spectrum.matrices import Matrix, dense, turned


def eigenvalues() -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    rand = torch.rand(200, generator=draw, dtype=torch.float64)
    return {
        "even": torch.linspace(0, 1, 400),
        "indefinite": torch.linspace(-1, 1.5, 400),
        "decaying": 0.95 ** torch.arange(400, dtype=torch.float64),
        # As a trained network's: a few outliers, a bulk with negative ones, and many zeros.
        "network": torch.cat([torch.tensor([100.0, 40, 20, 15, 10, 8]), rand * 0.5 - 0.1, torch.zeros(194)]),
        "two humps": torch.cat([rand[:200] * 0.3 - 2, torch.linspace(1, 3, 200)]),
    }


SPECTRA = eigenvalues()


@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize(("probes", "steps"), [(5, 12), (8, 30)])
def test_the_blurred_dense_spectrum_lies_within_the_stated_error(name, probes, steps):
    operator = turned(SPECTRA[name])
    values = dense(operator).numpy()
    inside, below = [], []
    for seed in range(3):
        found = density(operator, probes=probes, steps=steps, seed=seed)
        z = (found.grid[:, None] - values) / found.width
        truth = np.exp(-z * z / 2).mean(axis=1) / math.sqrt(2 * math.pi) / found.width
        inside.append(np.abs(truth - found.values) <= found.error + 1e-9 * truth.max())
        below.append(np.abs(ndtr(z).mean(axis=1) - found.cumulative) <= found.cumulative_error + 1e-9)
        assert np.trapezoid(found.values, found.grid) == pytest.approx(1, abs=0.03)
    assert np.concatenate(inside).mean() >= 0.95
    assert np.concatenate(below).mean() >= 0.95


@pytest.mark.parametrize("name", SPECTRA)
def test_masses_and_ranks_cover_what_the_dense_spectrum_says(name):
    operator = turned(SPECTRA[name])
    values = dense(operator).numpy()
    shares = np.abs(values) / np.abs(values).sum()
    shares = shares[shares > 0]
    truths = [float(np.mean(values < x)) for x in np.quantile(values, [0.1, 0.5, 0.9])]
    truths += [float(np.mean(values < -1e-9)), values.sum(), (values**2).mean()]
    hits = np.zeros(6)
    for seed in range(3):
        found = density(operator, probes=8, steps=24, seed=seed)
        told = [found.mass_below(x) for x in np.quantile(values, [0.1, 0.5, 0.9])]
        told += [found.negative, found.trace_of(lambda v: v), found.moment(2)]
        hits += [e.low - 1e-9 <= t <= e.high + 1e-9 for e, t in zip(told, truths, strict=True)]
        rank, entropy = found.effective_rank(), found.entropy_rank()
        wanted = values.sum() ** 2 / (values**2).sum()
        assert abs(rank.value - wanted) <= 6 * rank.stderr + 0.01 * wanted
        assert entropy.value == pytest.approx(math.exp(-(shares * np.log(shares)).sum()), rel=0.2)
    assert hits.min() >= 2
    assert hits.sum() >= 17


def test_a_wishart_matrix_has_the_density_of_marchenko_and_pastur():
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(500, 2000, generator=draw, dtype=torch.float64)
    found = density(Matrix(x @ x.T / 2000), probes=6, steps=40)
    low, high = (1 - 0.5) ** 2, (1 + 0.5) ** 2
    v = np.linspace(low, high, 1001)
    law = np.sqrt((high - v) * (v - low)) / (2 * np.pi * 0.25 * v)
    z = (found.grid[:, None] - v) / found.width
    truth = np.trapezoid(np.exp(-z * z / 2) / math.sqrt(2 * math.pi) / found.width * law, v, axis=1)
    assert np.mean(np.abs(truth - found.values) <= found.error + 0.01) >= 0.95
    assert found.negative.high < 1e-6
    assert found.moment(2).value == pytest.approx(1.25, abs=0.06)  # 1 + rows / columns


def test_outliers_are_found_one_by_one_and_leave_the_resolution_to_the_bulk():
    found = density(turned(SPECTRA["network"]), probes=6, steps=30)
    assert found.outliers[-6:].tolist() == pytest.approx([8, 10, 15, 20, 40, 100])
    assert found.width < 0.03  # with the outliers in it would be 3


def test_more_products_resolve_more_and_more_probes_err_less():
    operator = turned(SPECTRA["even"])
    coarse, fine = density(operator, probes=4, steps=10), density(operator, probes=4, steps=40)
    many = density(operator, probes=32, steps=10)
    assert fine.width < coarse.width / 2
    assert np.median(many.stderr) < np.median(coarse.stderr) / 1.5


def test_a_small_operator_is_known_whole():
    values = torch.tensor([-2.0, -1.0, 0.0, 0.0, 1.0, 5.0])
    found = density(turned(values))
    assert found.outliers.tolist() == pytest.approx(values.tolist(), abs=1e-12)
    assert (found.probes, found.products, float(found.error.max())) == (0, 6, 0.0)
    assert found.negative.value == pytest.approx(2 / 6)
    assert found.effective_rank().value == pytest.approx(9 / 31)
    assert found.logdet() is None


def test_the_logarithm_of_the_determinant_where_all_is_positive():
    values = torch.linspace(0.5, 4, 500)
    found = density(turned(values), probes=8, steps=20).logdet()
    assert found is not None
    assert found.low <= float(values.double().log().sum()) <= found.high
    assert found.error < 25


def test_moments_are_those_of_a_gauss_rule():
    # Of the identity every probe knows everything after one product.
    found = density(turned(torch.full((400,), 3.0)), probes=2, steps=4)
    assert found.moment(7).value == pytest.approx(3.0**7)
    assert found.moment(7).stderr == pytest.approx(0, abs=1e-9)


def test_what_is_not_finite_gives_an_empty_density():
    found = density(Matrix(torch.full((900, 900), math.nan)), probes=2, steps=4)
    assert not len(found.grid)
    assert math.isnan(found.negative.value)


@pytest.mark.parametrize("given", [{"probes": 1}, {"steps": 1}, {"points": 1}, {"width": 0.0}])
def test_an_argument_outside_its_domain_is_told(given):
    with pytest.raises(InputError, match="at least 2 probes"):
        density(turned(torch.ones(4)), **given)


@pytest.mark.parametrize("name", ["even", "indefinite", "decaying"])
def test_intervals_of_ranks_hold_the_truth_and_no_value_that_cannot_be(name):
    """From two probes a symmetric interval would reach below 1 and beyond the size."""
    operator = turned(SPECTRA[name])
    values = dense(operator).numpy()
    shares = np.abs(values) / np.abs(values).sum()
    truths = values.sum() ** 2 / (values**2).sum(), math.exp(-(shares * np.log(shares)).sum())
    least = 0 if name == "indefinite" else 1
    hits = 0
    for seed in range(8):
        found = density(operator, probes=2 + seed % 3, steps=12, seed=seed)
        for each, truth, low in zip(
            (found.effective_rank(), found.entropy_rank()), truths, (least, 1), strict=True
        ):
            assert low <= each.low <= each.value <= each.high <= 400
            hits += each.low <= truth * (1 + 1e-9) and truth * (1 - 1e-9) <= each.high
    assert hits >= 15


def crowd() -> torch.Tensor:
    """Three outliers, and a crowd of both signs around zero, as a network's at its start."""
    draw = torch.Generator().manual_seed(1)
    return torch.cat([torch.tensor([30.0, 10, 5]), 0.05 * torch.randn(400, generator=draw).double() ** 3])


@pytest.mark.parametrize(
    ("values", "near"), [(crowd(), 0.08), (SPECTRA["decaying"], 0.01), (SPECTRA["network"], 0.12)]
)
def test_what_cannot_be_told_from_zero_is_divided_as_what_can(values, near):
    truth = float((values < -1e-9).double().mean())
    for steps in (30, 60):
        found = density(turned(values), probes=4, steps=steps).negative
        assert found.value == pytest.approx(truth, abs=near)
        assert found.low <= truth <= found.high
