"""Diagonals against the dense ones, within the errors that are stated."""

from __future__ import annotations

import pytest
import torch

from downslope.terrain.spectrum import diagonal
from downslope.terrain.spectrum.deflated import Deflated
from downslope.terrain.spectrum.operand import operand
from tests.terrain.spectrum.matrices import Matrix, turned

STEPS = torch.arange(200, dtype=torch.float64)


@pytest.mark.parametrize(
    ("values", "tol"),
    [(torch.linspace(0, 1, 200), 0.1), (0.8**STEPS, 0.05), (torch.linspace(-1, 2, 200), 0.4)],
    ids=["even", "decaying", "indefinite"],
)
def test_entries_are_the_dense_ones_within_their_standard_errors(values, tol):
    operator = turned(values)
    found = diagonal(operator, tol=tol, steps=190)
    off = found.values - operator.matrix.diagonal()
    assert found.reached
    assert found.error <= tol
    assert found.products == operator.count
    assert float((off / found.stderr).square().mean().sqrt()) == pytest.approx(1, abs=0.25)
    assert float(off.norm() / operator.matrix.diagonal().norm()) <= 1.5 * tol


def test_what_a_subspace_holds_and_what_it_leaves_are_all_there_is():
    operator = turned(torch.linspace(-1, 2, 60))
    part = Deflated(operand(operator))
    draw = torch.Generator().manual_seed(3)
    part.extend(torch.randn(7, 60, generator=draw, dtype=torch.float64))
    left = part.apply(torch.eye(60, dtype=torch.float64))
    assert torch.allclose(part.diagonal() + left.diagonal(), operator.matrix.diagonal())
    assert part.trace() + float(left.trace()) == pytest.approx(float(operator.matrix.trace()))
    assert part.products == operator.count == 67


def test_a_subspace_saves_products_where_few_directions_hold_the_operator():
    operator = turned(torch.cat([torch.tensor([50.0, 20.0, 10.0]), torch.full((997,), 0.01)]))
    found = diagonal(operator, tol=0.05, steps=400)
    assert found.reached
    assert found.products < 60  # with signs alone it takes more than 400


def test_a_diagonal_matrix_takes_the_least():
    values = torch.linspace(-1, 1, 500)
    found = diagonal(Matrix(torch.diag(values)), tol=0.01)
    assert torch.allclose(found.values.float(), values, atol=1e-6)
    assert found.products == 16


def test_a_small_operator_is_read_off():
    operator = turned(torch.linspace(-1, 1, 12))
    found = diagonal(operator, tol=0.01)
    assert torch.allclose(found.values, operator.matrix.diagonal())
    assert (found.probes, found.products, found.error) == (0, 12, 0.0)


def test_too_few_products_are_told():
    found = diagonal(turned(torch.linspace(-1, 1, 300)), tol=0.01, steps=20)
    assert not found.reached
    assert found.products == 20
    assert found.error > 0.01
