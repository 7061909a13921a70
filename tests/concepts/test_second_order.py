"""Concept 37 by hand: Newton on a quadratic and at a saddle, BFGS from gradients, noise, averages."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

import downslope as ds
from downslope.terrain.methods import LBFGS, CoordinateDescent, Newton, SaddleFreeNewton
from tests.terrain.methods.problems import Path, quadratic, saddle


def test_newton_solves_a_quadratic_in_one_step_fails_at_a_saddle_and_is_saved_by_damping() -> None:
    f, answer = quadratic(np.logspace(0, 5, 10))
    np.testing.assert_allclose(Path(f, np.ones(10), Newton, 1).x, answer.numpy(), rtol=1e-8)
    start = [1.0, 0.2]
    g, h = np.array([2.0, -0.4 + 0.4 * 0.2**3]), np.diag([2.0, -2.0 + 1.2 * 0.2**2])
    first = Path(saddle, start, Newton, 1, line_search=None).x
    np.testing.assert_allclose(first, np.array(start) - np.linalg.solve(h, g))
    assert Path(saddle, start, Newton, 30, line_search=None).losses[-1] == 0.0
    for method in (Newton, SaddleFreeNewton):
        assert np.isclose(Path(saddle, start, method, 40).losses[-1], -2.5)


def test_bfgs_builds_the_inverse_hessian_from_gradients_alone() -> None:
    """On a quadratic with exact searches n steps give the matrix, and so the minimum (Nazareth 1979)."""
    f, answer = quadratic([1.0, 3.0, 7.0, 20.0, 50.0])
    path = Path(f, np.ones(5), LBFGS, 6, c1=1e-12, c2=1e-10)
    np.testing.assert_allclose(path.x, answer.numpy(), atol=1e-7)
    assert path.method.products == 0


def test_coordinate_descent_takes_exact_steps_that_do_not_need_a_rate() -> None:
    path = Path(lambda x: 50 * (x[0] - 1) ** 2 + (x[1] + 2) ** 2, [0.0, 0.0], CoordinateDescent, 1)
    np.testing.assert_allclose(path.x, [1.0, -2.0])


def test_small_batches_cost_a_method_of_curvature_its_advantage() -> None:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(512, 8, generator=draw, dtype=torch.float64)
    y = (
        x @ torch.randn(8, 1, generator=draw, dtype=torch.float64)
        + torch.randn(512, 1, generator=draw).double()
    )
    problem = ds.Problem(model=lambda: nn.Linear(8, 1), objective="squared_error", train=(x, y))
    least = ds.solve(problem).objective
    gaps: list[float] = []
    for size in (16, 128, "full"):
        recipe = ds.Recipe(optimizer="lbfgs", batch_size=size, steps=20, precision="float64")
        gaps.append(ds.fit(problem, recipe, folder=False, progress=False).summary["train_loss"] - least)
    assert gaps[0] > 3 * gaps[1] > 100 * abs(gaps[2])


def test_polyaks_average_is_the_mean_of_the_iterates() -> None:
    x = torch.linspace(-1, 1, 32, dtype=torch.float64)[:, None]
    problem = ds.Problem(model=lambda: nn.Linear(1, 1), objective="squared_error", train=(x, 2 * x))
    recipe = ds.Recipe(optimizer="gd", lr=0.3, steps=12, average="polyak", precision="float64")
    run = ds.fit(problem, recipe, folder=False, progress=False)
    w, seen = problem.build(0).weight.item(), list[float]()
    for _ in range(12):
        w -= 0.3 * 2 * float((x**2).mean()) * (w - 2)
        seen.append(w)
    assert np.isclose(run.model().weight.item(), np.mean(seen))
