from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

from downslope.terrain.surveys.gain import gain, won


class Matrix:
    """A dense symmetric operator."""

    exact = True

    def __init__(self, matrix: Tensor) -> None:
        self.matrix, self.size = matrix, len(matrix)

    def product(self, vector: Tensor) -> Tensor:
        return self.matrix @ vector


def drawn(n: int, seed: int = 0, *, low: float = -1.0) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    q, _ = torch.linalg.qr(torch.randn(n, n, generator=draw, dtype=torch.float64))
    values = low + (3.0 - low) * torch.rand(n, generator=draw, dtype=torch.float64)
    return q @ torch.diag(values) @ q.T, torch.randn(n, generator=draw, dtype=torch.float64)


@pytest.mark.parametrize("reach", [0.05, 0.5, 50.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_it_is_the_best_step_within_the_reach_where_all_bends_up(reach: float, seed: int) -> None:
    matrix, gradient = drawn(6, seed)
    values, vectors = torch.linalg.eigh(matrix)
    magnitude = ((vectors * values.abs()) @ vectors.T).numpy()
    g = gradient.numpy()
    best = minimize(
        lambda d: g @ d + 0.5 * d @ magnitude @ d, np.zeros(6), jac=lambda d: g + magnitude @ d,
        constraints={"type": "ineq", "fun": lambda d: reach**2 - d @ d, "jac": lambda d: -2 * d},
        method="SLSQP", options={"ftol": 1e-14, "maxiter": 500},
    )  # fmt: skip
    assert won(values, vectors.T @ gradient, reach) == pytest.approx(-best.fun, rel=1e-5)
    assert gain(Matrix(matrix), gradient, reach, steps=6) == pytest.approx(-best.fun, rel=1e-5)


def test_of_a_convex_quadratic_it_is_the_gap_to_the_minimum() -> None:
    matrix, gradient = drawn(40, low=0.1)
    gap = float(gradient @ torch.linalg.solve(matrix, gradient)) / 2
    far = float(torch.linalg.solve(matrix, gradient).norm())
    assert gain(Matrix(matrix), gradient, 2 * far, steps=40) == pytest.approx(gap, rel=1e-9)
    few = gain(Matrix(matrix), gradient, 2 * far, steps=12)
    assert 0.95 * gap < few <= gap * (1 + 1e-12)


def test_it_scales_with_the_loss_and_vanishes_with_the_slope() -> None:
    matrix, gradient = drawn(8)
    once = gain(Matrix(matrix), gradient, 0.3)
    assert gain(Matrix(1e6 * matrix), 1e6 * gradient, 0.3) == pytest.approx(1e6 * once)
    assert gain(Matrix(matrix), 0 * gradient, 0.3) == 0.0
    assert gain(Matrix(0 * matrix), gradient, 0.3) == pytest.approx(0.3 * float(gradient.norm()))


def test_without_a_reach_nothing_is_won_and_of_lost_curvature_the_bound_is_told() -> None:
    matrix, gradient = drawn(4)
    assert gain(Matrix(matrix), gradient, 0.0) == 0.0
    assert gain(Matrix(matrix * float("nan")), gradient, 0.5) == pytest.approx(0.5 * float(gradient.norm()))
