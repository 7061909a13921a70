"""Conjugate gradients: exact in n steps, on the sphere of a trust region, along negative curvature."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from downslope.terrain.methods import conjugate_gradients


def matrix(values: list[float]) -> Tensor:
    draw = torch.Generator().manual_seed(0)
    q, _ = torch.linalg.qr(torch.randn(len(values), len(values), generator=draw, dtype=torch.float64))
    return q @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ q.T


def right(n: int) -> Tensor:
    return torch.randn(n, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_a_system_of_n_unknowns_is_solved_in_n_steps_and_of_k_eigenvalues_in_k() -> None:
    g = right(12)
    a = matrix([float(i + 1) for i in range(12)])
    found = conjugate_gradients(a.mv, g, tol=1e-10)
    assert found.ended == "solved"
    assert found.products <= 12
    np.testing.assert_allclose(found.step.numpy(), np.linalg.solve(a.numpy(), -g.numpy()), rtol=1e-9)
    clustered = conjugate_gradients(matrix([1.0] * 5 + [4.0] * 4 + [9.0] * 3).mv, g, tol=1e-10)
    assert clustered.products == 3


def test_the_decrease_is_that_of_the_quadratic_model() -> None:
    a, g = matrix([1.0, 2.0, 5.0, 30.0]), right(4)
    found = conjugate_gradients(a.mv, g, tol=1e-1)
    p = found.step
    assert found.decrease == pytest.approx(-float(g @ p + 0.5 * p @ a @ p))
    assert found.residual == pytest.approx(float(torch.linalg.vector_norm(g + a @ p)))


def test_inside_a_trust_region_it_is_scipys_subproblem() -> None:
    from scipy.optimize._trustregion_ncg import CGSteihaugSubproblem

    for values, radius in [([1.0, 2.0, 5.0], 0.3), ([-1.0, 2.0, 5.0], 0.7), ([1.0, 2.0, 5.0], 50.0)]:
        a, g = matrix(values), right(3)
        theirs, hits = CGSteihaugSubproblem(
            np.zeros(3),
            fun=lambda x: 0.0,
            jac=lambda x, g=g: g.numpy(),
            hess=lambda x, a=a: a.numpy(),
            hessp=None,
        ).solve(radius)
        norm = float(torch.linalg.vector_norm(g))
        ours = conjugate_gradients(a.mv, g, tol=min(0.5, math.sqrt(norm)) * norm, radius=radius)
        np.testing.assert_allclose(ours.step.numpy(), theirs, rtol=1e-10)
        assert (ours.ended in ("negative", "boundary")) == hits


def test_without_a_radius_negative_curvature_ends_it_and_is_told() -> None:
    a, g = matrix([-2.0, 1.0, 3.0, 8.0]), right(4)
    found = conjugate_gradients(a.mv, g, tol=1e-10)
    assert found.ended == "negative"
    assert found.direction is not None
    assert float(found.direction @ a @ found.direction) < 0
    assert float(found.direction @ g) <= 0


def test_a_preconditioner_that_is_the_matrix_solves_it_in_one_product() -> None:
    a, g = matrix([1.0, 10.0, 100.0, 1000.0]), right(4)
    found = conjugate_gradients(a.mv, g, tol=1e-8, precondition=lambda r: torch.linalg.solve(a, r))
    assert found.products == 1
    np.testing.assert_allclose(found.step.numpy(), np.linalg.solve(a.numpy(), -g.numpy()), rtol=1e-8)


def test_a_start_near_the_solution_saves_products() -> None:
    a, g = matrix([float(i + 1) for i in range(10)]), right(10)
    answer = torch.linalg.solve(a, -g)
    found = conjugate_gradients(a.mv, g, tol=1e-8, start=answer)
    assert found.products == 1
    np.testing.assert_allclose(found.step.numpy(), answer.numpy(), rtol=1e-8)


def test_a_product_that_is_not_finite_ends_it_with_what_was_there() -> None:
    found = conjugate_gradients(lambda v: v * math.nan, right(3), tol=1e-8)
    assert found.ended == "non-finite"
    assert bool((found.step == 0).all())


def test_a_direction_without_curvature_is_not_taken_for_a_negative_one() -> None:
    a = torch.diag(torch.tensor([1.0, 2.0, 0.0], dtype=torch.float64))
    found = conjugate_gradients(a.mv, torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64), tol=1e-12)
    assert found.ended == "solved"
    q = matrix([1.0, 3.0, 0.0, 0.0])
    g = q @ right(4)  # in the range of a singular matrix: rounding alone has a part outside
    found = conjugate_gradients(q.mv, g, tol=1e-17, max_cg=50)
    assert found.ended == "steps"
    assert float(torch.linalg.vector_norm(q @ found.step + g)) < 1e-12
