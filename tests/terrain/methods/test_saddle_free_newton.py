"""Saddle-free Newton leaves x^2 - y^2 where Newton goes to the saddle."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from downslope.terrain.methods import Newton, SaddleFreeNewton
from downslope.terrain.methods import saddle_free_newton as module
from tests.terrain.methods.problems import Path, quadratic, rosenbrock, saddle


def test_it_leaves_the_saddle_to_which_newton_goes() -> None:
    newton = Path(saddle, [1.0, 1e-3], Newton, 10, line_search=None)
    free = Path(saddle, [1.0, 1e-3], SaddleFreeNewton, 40)
    np.testing.assert_allclose(newton.x, [0.0, 0.0], atol=1e-12)
    assert free.losses[-1] == pytest.approx(-2.5)


def test_from_the_ridge_and_from_the_saddle_itself_it_goes_down() -> None:
    for start in ([1.0, 0.0], [0.0, 0.0]):
        path = Path(saddle, start, SaddleFreeNewton, 40, gtol=-1.0)
        assert path.losses[-1] == pytest.approx(-2.5)


def test_one_step_divides_by_the_size_of_every_curvature() -> None:
    path = Path(lambda x: x[0] ** 2 - 3 * x[1] ** 2, [1.0, 0.5], SaddleFreeNewton, 1)
    np.testing.assert_allclose(path.x, [0.0, 1.0], atol=1e-12)


def test_where_all_curvature_is_positive_it_is_newton() -> None:
    f, answer = quadratic(np.logspace(0, 3, 7))
    path = Path(f, np.ones(7), SaddleFreeNewton, 1)
    np.testing.assert_allclose(path.x, answer.numpy(), rtol=1e-8)
    assert Path(rosenbrock, [1.1, 1.2], SaddleFreeNewton, 8).losses[-1] < 1e-20


def test_the_subspace_of_a_large_model_gives_the_same_step(monkeypatch: pytest.MonkeyPatch) -> None:
    f, _ = quadratic([-4.0, -1.0, 0.5, 1.0, 2.0, 3.0, 8.0, 9.0])
    exact = Path(f, np.ones(8), SaddleFreeNewton, 1)
    monkeypatch.setattr(module, "EXACT", 0)
    part = Path(f, np.ones(8), SaddleFreeNewton, 1, subspace=8)
    np.testing.assert_allclose(part.x, exact.x, rtol=1e-8)
    assert part.method.products == 8


def test_a_subspace_smaller_than_the_model_still_goes_down() -> None:
    draw = torch.Generator().manual_seed(3)
    spread = torch.linspace(-0.2, 4.0, 600, dtype=torch.float64)
    start = torch.randn(600, generator=draw, dtype=torch.float64)
    path = Path(lambda x: (0.5 * spread * x**2 + 0.05 * x**4).sum(), start, SaddleFreeNewton, 12, subspace=10)
    losses = np.array(path.losses)
    assert (np.diff(losses) < 0).all()
    assert losses[-1] < -0.05
