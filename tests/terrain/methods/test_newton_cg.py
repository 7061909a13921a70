"""Newton by conjugate gradients: Newton where they are solved, down along negative curvature where met."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from downslope.terrain.methods import NewtonCG
from tests.terrain.methods.problems import F, Path, beale, quadratic, rosenbrock, saddle


@pytest.mark.parametrize(("f", "answer"), [(rosenbrock, [1.0, 1.0]), (beale, [3.0, 0.5])])
def test_it_finds_the_minimum_as_exactly_as_newton(f: F, answer: list[float]) -> None:
    path = Path(f, [-1.2, 1.0] if f is rosenbrock else [1.0, 1.0], NewtonCG, 100, gtol=1e-10)
    np.testing.assert_allclose(path.x, answer, rtol=1e-9)


def test_the_nearer_the_minimum_the_more_exactly_the_system_is_solved() -> None:
    """Superlinear convergence: the forcing term goes to zero with the gradient (Dembo and Steihaug)."""
    f, answer = quadratic(np.logspace(0, 2, 20))
    path = Path(f, np.ones(20), NewtonCG, 30, gtol=1e-9)
    errors = [float((x - answer).norm()) for x in path.points]
    rates = [after / before for before, after in itertools.pairwise(errors)]
    assert rates[-1] < 1e-3 < rates[0]
    assert path.method.products < 200


@pytest.mark.parametrize("start", [[1.0, 1e-6], [1.0, 0.0], [0.0, 0.0]])
def test_it_leaves_a_saddle(start: list[float]) -> None:
    assert Path(saddle, start, NewtonCG, 60, gtol=-1.0).losses[-1] == pytest.approx(-2.5)


def test_a_first_direction_of_negative_curvature_is_followed_with_its_own_length() -> None:
    path = Path(lambda x: -(x[0] ** 2) + 0.5 * x[0] ** 4, [0.1], NewtonCG, 1, line_search=None)
    g, h = -0.2 + 2 * 0.1**3, -2 + 6 * 0.1**2
    assert path.x[0] == pytest.approx(0.1 + abs(g / h))
    assert path.method.last is not None
    assert "negative curvature" in path.method.last.said


def test_products_are_counted_and_bounded() -> None:
    f, _ = quadratic(np.logspace(0, 4, 30))
    path = Path(f, np.ones(30), NewtonCG, 5, max_cg=3)
    assert path.method.products <= 5 * 3
