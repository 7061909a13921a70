"""Extreme eigenvalues against dense ones, and the operators on which Lanczos is easily wrong."""

from __future__ import annotations

import math

import pytest
import torch

from downslope.terrain import lanczos


def symmetric(values: torch.Tensor, seed: int = 0) -> torch.Tensor:
    """A matrix with these eigenvalues and random eigenvectors."""
    draw = torch.Generator().manual_seed(seed)
    q, _ = torch.linalg.qr(torch.randn(len(values), len(values), generator=draw, dtype=torch.float64))
    return q @ torch.diag(values.double()) @ q.T


def start(n: int, seed: int = 1, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


SPECTRA = {
    "one outlier": torch.cat([torch.linspace(0, 1, 99), torch.tensor([50.0])]),
    "indefinite": torch.linspace(-3, 5, 100),
    "negative": -torch.linspace(1, 9, 100),
    "close pair": torch.cat([torch.linspace(0, 1, 98), torch.tensor([9.99, 10.0])]),
    "ill-conditioned": torch.logspace(-8, 2, 100),
}


@pytest.mark.parametrize("name", SPECTRA)
def test_both_ends_are_the_dense_ones_within_their_residuals(name):
    a = symmetric(SPECTRA[name])
    found = lanczos(lambda v: a @ v, start(100), steps=100, tol=1e-8, which="both")
    values = torch.linalg.eigvalsh(a)
    scale = values.abs().max().item()
    assert found.top.value == pytest.approx(values[-1].item(), rel=1e-9)
    assert found.bottom.value == pytest.approx(values[0].item(), abs=1e-9 * scale)
    for end in (found.top, found.bottom):
        seen = (a @ end.vector - end.value * end.vector).norm().item()
        assert seen == pytest.approx(end.residual, rel=1e-3, abs=1e-12 * scale)


@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("steps", [1, 3, 8])
def test_an_eigenvalue_lies_within_the_residual_at_any_step(name, steps):
    a = symmetric(SPECTRA[name])
    found = lanczos(lambda v: a @ v, start(100), steps=steps, tol=1e-14)
    values = torch.linalg.eigvalsh(a)
    assert found.iterations <= steps
    assert found.status != "exhausted"
    for end in (found.top, found.bottom):
        assert (values - end.value).abs().min().item() <= end.residual * (1 + 1e-9)


def test_it_stops_as_soon_as_the_tolerance_is_met():
    a = symmetric(SPECTRA["one outlier"])
    rough = lanczos(lambda v: a @ v, start(100), steps=100, tol=1e-2)
    fine = lanczos(lambda v: a @ v, start(100), steps=100, tol=1e-6)
    assert rough.status == fine.status == "converged"
    assert rough.iterations < fine.iterations <= 10
    assert rough.top.residual <= 0.5
    assert rough.top.value == pytest.approx(50, rel=1e-4)


def test_the_seed_of_the_start_decides_everything():
    a = symmetric(SPECTRA["indefinite"])
    first, again, other = (
        lanczos(lambda v: a @ v, start(100, seed), steps=9, tol=1e-9).top.value for seed in (1, 1, 2)
    )
    assert first == again != other


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("value", [0.0, 3.0, -3.0])
def test_a_multiple_of_the_identity_is_exhausted_after_one_product(value, dtype):
    found = lanczos(lambda v: value * v, start(10, dtype=dtype), steps=5, tol=1e-2)
    assert found.status == "exhausted"
    assert found.iterations == 1
    assert found.top.value == found.bottom.value == pytest.approx(value)
    assert found.top.residual <= 1e-5 * abs(value)


def test_a_low_rank_is_exhausted_when_its_subspace_is():
    a = symmetric(torch.tensor([7.0, -2.0] + [0.0] * 48))
    found = lanczos(lambda v: a @ v, start(50), steps=50, tol=1e-13, which="both")
    assert found.status == "exhausted"
    assert found.iterations == 3
    assert (found.top.value, found.bottom.value) == (pytest.approx(7), pytest.approx(-2))


def test_copies_of_an_eigenvalue_do_not_appear():
    # Without reorthogonalisation an outlier returns again and again, and the rest never converges.
    a = symmetric(torch.cat([torch.linspace(-1, 0, 199), torch.tensor([1e4])]))
    found = lanczos(lambda v: a @ v, start(200), steps=150, tol=1e-10, which="bottom")
    assert found.bottom.value == pytest.approx(-1, abs=1e-6)


def test_a_start_beside_a_wrong_eigenvector_does_not_stop_there():
    values = torch.tensor([1.0, 100.0, 2.0], dtype=torch.float64)
    found = lanczos(lambda v: values * v, torch.tensor([1.0, 1e-3, 0.0]).double(), steps=3, tol=0.2)
    assert found.top.value == pytest.approx(100)


def test_one_dimension():
    found = lanczos(lambda v: -4 * v, torch.ones(1, dtype=torch.float64), steps=20, tol=1e-2)
    assert (found.top.value, found.iterations, found.status) == (-4, 1, "exhausted")


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_non_finite_operator_gives_no_number(bad):
    found = lanczos(lambda v: v * bad, start(10), steps=5, tol=1e-2)
    assert found.status == "non-finite"
    assert math.isnan(found.top.value)
    assert found.top.residual == math.inf


def test_single_precision_keeps_six_digits():
    a = symmetric(SPECTRA["indefinite"]).float()
    found = lanczos(lambda v: a @ v, start(100, dtype=torch.float32), steps=60, tol=1e-5)
    assert found.top.value == pytest.approx(5, rel=1e-6)
