"""Newton: one step on a quadratic, digits doubled near a minimum; damped where curvature is not positive."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from downslope.core.errors import ModelError, RecipeError
from downslope.terrain.methods import Newton
from tests.terrain.methods.problems import Path, beale, quadratic, rosenbrock, saddle


def test_one_step_solves_a_quadratic() -> None:
    f, answer = quadratic(np.logspace(0, 4, 8))
    path = Path(f, np.ones(8), Newton, 1)
    np.testing.assert_allclose(path.x, answer.numpy(), rtol=1e-9)


def test_digits_double_near_the_minimum() -> None:
    path = Path(rosenbrock, [1.1, 1.2], Newton, 6)
    errors = [float((x - 1).abs().max()) for x in path.points]
    tail = [e for e in errors if 1e-14 < e < 0.05]
    assert all(after <= 100 * before**2 for before, after in itertools.pairwise(tail))
    assert errors[-1] < 1e-12


def test_the_path_from_the_usual_start_is_that_by_hand() -> None:
    path = Path(rosenbrock, [-1.2, 1.0], Newton, 1, line_search=None)
    g, h = np.array([-215.6, -88.0]), np.array([[1330.0, 480.0], [480.0, 200.0]])
    np.testing.assert_allclose(path.x, np.array([-1.2, 1.0]) - np.linalg.solve(h, g), rtol=1e-12)


def test_plain_newton_goes_to_the_saddle_and_damped_newton_leaves_it() -> None:
    plain = Path(saddle, [1.0, 0.3], Newton, 20, line_search=None)
    np.testing.assert_allclose(plain.x, [0.0, 0.0], atol=1e-10)
    damped = Path(saddle, [1.0, 0.3], Newton, 40)
    assert damped.losses[-1] == pytest.approx(-2.5)
    assert damped.x[1] == pytest.approx(np.sqrt(5))


def test_an_indefinite_hessian_is_told_with_its_eigenvalue() -> None:
    path = Path(saddle, [1.0, 0.3], Newton, 1)
    assert path.method.last is not None
    assert "indefinite" in path.method.last.said
    assert "-1.89" in path.method.last.said or "-1.9" in path.method.last.said


def test_a_singular_hessian_still_gives_the_minimum() -> None:
    path = Path(lambda x: (x[0] + x[1] - 3) ** 2 + (x[2] - 1) ** 2, [0.0, 0.0, 0.0], Newton, 10)
    assert path.losses[-1] < 1e-20


def test_it_ends_at_precision_and_says_so() -> None:
    path = Path(lambda x: 1 + beale(x), [1.0, 1.0], Newton, 100)
    assert path.method.last is not None
    assert path.method.last.converged
    assert "converged" in path.method.last.said
    np.testing.assert_allclose(path.x, [3.0, 0.5], rtol=1e-7)


def test_too_many_parameters_are_refused_with_what_to_take() -> None:
    p = nn.Parameter(torch.zeros(5001))
    with pytest.raises(ModelError, match="newton_cg"):
        Newton([p]).step(lambda: p.square().sum())


@pytest.mark.parametrize(
    "settings", [{"damping": -1.0}, {"line_search": "wolf"}, {"c1": 0.7}, {"lr": float("nan")}]
)
def test_settings_outside_their_domain_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(RecipeError, match=next(iter(settings))):
        Newton([nn.Parameter(torch.zeros(2))], **settings)
