"""Eigenpairs of both ends against LAPACK, SciPy's eigsh and the dense Hessian of a small model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse.linalg
import torch
from torch import nn

from downslope.core.errors import InputError
from downslope.terrain import Hessian
from downslope.terrain.spectrum import extremes
from tests.terrain.spectrum.matrices import Matrix, dense, spread, turned

SPECTRA = spread()
RESTARTS = {"outliers", "indefinite", "multiple", "low rank", "identity", "zero"}


@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize(("top", "bottom"), [(1, 0), (0, 2), (5, 5), (3, 1)])
def test_both_ends_are_the_dense_ones_copies_and_all(name, top, bottom):
    operator = turned(SPECTRA[name])
    found = extremes(operator, top, bottom, tol=1e-7)
    values = dense(operator)
    wanted = torch.cat([values[:top], values[len(values) - bottom :]])
    size = values.abs().max()
    assert found.status in {"converged", "exhausted"}
    assert found.complete
    assert found.products == operator.count
    assert torch.allclose(found.values, wanted, rtol=1e-6, atol=1e-6 * float(size))
    assert bool(((found.values - wanted).abs() <= found.errors + 1e-13 * size).all())
    seen = (operator.matrix @ found.vectors.T - found.vectors.T * found.values).norm(dim=0)
    assert torch.allclose(seen, found.residuals, rtol=1e-3, atol=1e-12 * float(size) + 1e-14)
    eye = torch.eye(top + bottom, dtype=torch.float64)
    assert torch.allclose(found.vectors @ found.vectors.T, eye, atol=1e-9)


@pytest.mark.parametrize("name", sorted(RESTARTS))
def test_a_basis_too_short_for_the_search_is_restarted(name):
    operator = turned(SPECTRA[name])
    found = extremes(operator, 4, 2, tol=1e-6, room=16, steps=900)
    values = dense(operator)
    assert found.status == "converged"
    wanted = torch.cat([values[:4], values[-2:]])
    assert torch.allclose(found.values, wanted, rtol=1e-5, atol=1e-5 * float(values.abs().max()))


def test_the_values_are_those_of_scipy_in_no_more_products():
    operator = turned(SPECTRA["indefinite"])
    found = extremes(operator, 4, 0, tol=1e-9, copies=False)
    theirs = Matrix(operator.matrix)
    linear: Any = scipy.sparse.linalg.LinearOperator(
        operator.matrix.shape, lambda v: theirs.product(torch.from_numpy(v).double()).numpy(), dtype=float
    )
    values = scipy.sparse.linalg.eigsh(linear, k=4, which="LA", tol=1e-9, return_eigenvectors=False)
    assert found.values.numpy() == pytest.approx(np.sort(values)[::-1], rel=1e-8)
    assert found.products <= theirs.count


def test_three_digits_of_an_outlier_take_a_handful_of_products():
    operator = turned(SPECTRA["outliers"])
    found = extremes(operator, 1, 0, tol=1e-3)
    assert found.largest == pytest.approx(100, rel=1e-3)
    assert found.products <= 8
    assert found.residuals[0] > 10 * found.errors[0]


def test_one_start_shows_one_copy_and_a_second_look_the_others():
    operator = turned(torch.cat([torch.tensor([5.0, 5.0, 4.0]), torch.linspace(-1, 1, 197)]))
    found = extremes(operator, 2, 0, copies=False)
    assert found.values.tolist() == pytest.approx([5, 4], rel=1e-3)
    told = extremes(operator, 2, 0, steps=found.products)
    assert not told.complete
    assert extremes(operator, 2, 0).values.tolist() == pytest.approx([5, 5], rel=1e-3)


@pytest.mark.parametrize(("top", "bottom"), [(6, 0), (3, 3), (9, 9), (0, 6)])
def test_more_than_there_are_is_all_of_them(top, bottom):
    values = torch.tensor([3.0, 3.0, 1.0, 0.0, -1.0, -8.0])
    found = extremes(turned(values), top, bottom)
    assert found.values.tolist() == pytest.approx(values.tolist(), abs=1e-12)
    assert found.status == "exhausted"
    assert found.complete


def test_one_dimension_has_one_eigenvalue():
    found = extremes(Matrix(torch.tensor([[-4.0]])), 1, 1)
    assert (found.values.tolist(), found.products) == ([-4.0], 1)


def test_too_few_products_are_told_and_an_eigenvalue_still_lies_within_the_residual():
    operator = turned(SPECTRA["indefinite"])
    found = extremes(operator, 2, 2, tol=1e-8, steps=9)
    values = dense(operator)
    assert (found.status, found.products) == ("steps", 9)
    for value, residual in zip(found.values, found.residuals, strict=True):
        assert float((values - value).abs().min()) <= float(residual)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_an_operator_that_is_not_finite_gives_no_number(bad):
    found = extremes(Matrix(torch.full((5, 5), bad)), 2, 1)
    assert found.status == "non-finite"
    assert bool(found.values.isnan().all())
    assert len(found.values) == 3


def test_the_hessian_of_a_model_to_six_digits():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    x, y = torch.randn(30, 5, dtype=torch.float64), torch.randint(0, 3, (30,))
    names, params = zip(*model.named_parameters(), strict=True)
    sizes = [p.numel() for p in params]

    def loss(theta: torch.Tensor) -> torch.Tensor:
        parts = dict(zip(names, theta.split(sizes), strict=True))
        shaped = {name: part.reshape(p.shape) for (name, part), p in zip(parts.items(), params, strict=True)}
        return nn.functional.cross_entropy(torch.func.functional_call(model, shaped, (x,)), y)

    theta = torch.cat([p.detach().reshape(-1) for p in params])
    values = torch.linalg.eigvalsh(torch.autograd.functional.hessian(loss, theta)).flip(0)
    hessian = Hessian(lambda: nn.functional.cross_entropy(model(x), y), list(params))
    found = extremes(hessian, 6, 3, tol=1e-7)
    assert torch.allclose(found.values, torch.cat([values[:6], values[-3:]]), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"top": 0, "bottom": 0}, "at least 1 together"),
        ({"top": -1}, "top=-1"),
        ({"tol": 0.0}, "tol must lie"),
        ({"steps": 0}, "steps=0"),
        ({"room": 0}, "room=0"),
    ],
)
def test_an_argument_outside_its_domain_is_told(given, told):
    with pytest.raises(InputError, match=told):
        extremes(turned(torch.ones(4)), **given)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("tol", [0.05, 0.02])
def test_a_small_end_is_not_taken_for_found_where_nearly_all_eigenvalues_are_next_to_nothing(seed, tol):
    draw = torch.Generator().manual_seed(seed)
    bulk = 1e-3 * torch.randn(791, generator=draw).abs()
    operator = turned(
        torch.cat([torch.tensor([6.0, 4, 2, 1.5, 1, 0.5]), bulk, torch.tensor([-0.1, -0.15, -0.2])])
    )
    found = extremes(operator, tol=tol, seed=seed)
    assert found.status == "converged"
    assert found.smallest == pytest.approx(-0.2, rel=3 * tol)
    assert found.products < 40
