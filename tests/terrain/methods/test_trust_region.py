"""The trust region: SciPy's path, the radius as it should move, and the way out of a saddle."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from downslope.terrain.methods import TrustRegion
from tests.terrain.methods.problems import F, Path, beale, numpy_of, rosenbrock, saddle


def hessian_of(f: F) -> Any:
    hessian: Any = torch.autograd.functional.hessian
    return lambda x: hessian(f, torch.tensor(x)).numpy()


@pytest.mark.parametrize(
    ("f", "start"), [(rosenbrock, [-1.2, 1.0]), (beale, [1.0, 1.0]), (rosenbrock, [-1.2, 1.0] * 5)]
)
def test_its_path_and_its_evaluations_are_those_of_trust_ncg(f: F, start: list[float]) -> None:
    seen: list[Any] = [np.array(start)]

    def note(x: Any) -> None:
        if not np.array_equal(x, seen[-1]):  # SciPy counts a refused trial as an iteration
            seen.append(x.copy())

    options = {"gtol": 1e-8}
    theirs = minimize(
        numpy_of(f), start, jac=True, hess=hessian_of(f), method="trust-ncg", callback=note, options=options
    )
    ours = Path(f, start, TrustRegion, 200, gtol=1e-8)
    points = np.stack([x.numpy() for x in ours.points])
    count = min(len(points), len(seen), 12)  # rounding grows from step to step
    np.testing.assert_allclose(points[:count], np.stack(seen[:count]), rtol=1e-6)
    assert ours.method.evaluations <= theirs.nfev + theirs.nhev


def test_the_radius_is_cut_where_the_model_was_wrong_and_doubled_where_it_was_right() -> None:
    right = Path(lambda x: (x**2).sum(), [40.0, 0.0], TrustRegion, 2)
    assert right.method.memory["radius"] == 4.0
    wrong = Path(lambda x: (1 + x[0] ** 2).sqrt(), [3.0], TrustRegion, 1, radius=100.0)  # too flat a model
    assert wrong.method.memory["radius"] == 2 * 100.0 / 64
    assert wrong.method.evaluations == 6  # one of them the graph of the curvature


def test_steps_into_what_is_not_finite_cut_the_radius() -> None:
    path = Path(lambda x: -torch.log(1 - x[0]) - 3 * x[0], [0.0], TrustRegion, 20, radius=100.0)
    assert path.x[0] == pytest.approx(2 / 3)


@pytest.mark.parametrize("start", [[1.0, 0.0], [0.0, 0.0]])
def test_it_leaves_a_saddle_even_from_the_point_where_there_is_no_slope(start: list[float]) -> None:
    path = Path(saddle, start, TrustRegion, 60, gtol=-1.0)
    assert path.losses[-1] == pytest.approx(-2.5)
    assert abs(path.x[1]) == pytest.approx(math.sqrt(5))


def test_at_a_minimum_without_slope_it_ends() -> None:
    path = Path(lambda x: (x**2).sum(), [0.0, 0.0], TrustRegion, 5, gtol=-1.0)
    assert path.method.last is not None
    assert path.method.last.converged
    assert len(path.losses) == 2
