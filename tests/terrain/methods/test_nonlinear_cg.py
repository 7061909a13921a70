"""Non-linear conjugate gradients: the linear ones on a quadratic, SciPy's path, five formulas by hand."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from sklearn.datasets import load_breast_cancer
from torch import nn

from downslope.terrain.ground import Ground
from downslope.terrain.methods import NonlinearCG
from downslope.terrain.methods.domains import CHOICES
from downslope.terrain.methods.nonlinear_cg import beta_of
from tests.terrain.methods.problems import Path, beale, numpy_of, quadratic, rosenbrock

FORMULAS = CHOICES["formula"]


@pytest.mark.parametrize("formula", FORMULAS)
def test_with_exact_searches_a_quadratic_of_n_dimensions_takes_n_steps(formula: str) -> None:
    f, answer = quadratic([1.0, 2.0, 5.0, 9.0, 12.0, 20.0])
    path = Path(f, np.ones(6), NonlinearCG, 6, formula=formula, c1=1e-12, c2=1e-10)
    np.testing.assert_allclose(path.x, answer.numpy(), rtol=1e-5)


def test_the_formulas_are_those_of_the_papers() -> None:
    g, new, d = (torch.tensor(v, dtype=torch.float64) for v in ([1.0, -2.0], [0.5, 1.0], [-1.0, 3.0]))
    y = new - g
    byhand = {
        "fletcher_reeves": 1.25 / 5.0,
        "polak_ribiere": float(y @ new) / 5.0,
        "hestenes_stiefel": float(y @ new) / float(y @ d),
        "dai_yuan": 1.25 / float(y @ d),
        "hager_zhang": float((y - 2 * d * (y @ y) / (y @ d)) @ new / (y @ d)),
    }
    for formula in FORMULAS:
        assert beta_of(formula, g, new, d) == pytest.approx(byhand[formula])


@pytest.mark.parametrize("name", ["bowl", "beale"])
def test_its_first_steps_are_those_of_scipys_cg(name: str) -> None:
    bowl = quadratic(np.logspace(0, 2, 12))[0]
    f, start = {"bowl": (bowl, [1.0] * 12), "beale": (beale, [1.0, 1.0])}[name]
    seen: list[Any] = []
    minimize(numpy_of(f), start, jac=True, method="CG", callback=lambda x: seen.append(x.copy()))
    path = Path(f, start, NonlinearCG, 8)
    np.testing.assert_allclose(np.stack([x.numpy() for x in path.points[1:9]]), np.stack(seen[:8]), rtol=1e-6)


@pytest.mark.parametrize("formula", FORMULAS)
def test_every_formula_finds_the_bottom_of_the_curved_valley(formula: str) -> None:
    path = Path(rosenbrock, [-1.2, 1.0], NonlinearCG, 150, gtol=1e-8, formula=formula)
    np.testing.assert_allclose(path.x, [1.0, 1.0], rtol=1e-6)


def test_a_restart_makes_every_kth_step_one_of_steepest_descent() -> None:
    path = Path(rosenbrock, [-1.2, 1.0] * 3, NonlinearCG, 9, restart=3)
    cosines: list[float] = []
    for before, after in itertools.pairwise(path.points):
        at = before.clone().requires_grad_()
        (g,) = torch.autograd.grad(rosenbrock(at), at)
        move = after - before
        cosines.append(float(-(move @ g) / (move.norm() * g.norm())))
    assert cosines[::3] == pytest.approx([1.0] * 3, abs=1e-12)
    assert max(cosines[i] for i in (2, 4, 5, 7, 8)) < 1 - 1e-3


def test_the_steps_at_rounding_take_no_more_looks_than_the_others() -> None:
    """Where the losses along the line are one within an ulp, searches that compare them look in vain."""
    x, y = load_breast_cancer(return_X_y=True)
    rows, target = torch.tensor((x - x.mean(0)) / x.std(0)), torch.tensor(y, dtype=torch.float64)[:, None]
    model = nn.Linear(30, 1).double()
    nn.init.zeros_(model.weight), nn.init.zeros_(model.bias)
    method = NonlinearCG([model.weight, model.bias], weight_decay=1e-2)
    ground = Ground(
        [(lambda: nn.functional.binary_cross_entropy_with_logits(model(rows), target), 1.0)],
        [model.weight, model.bias],
    )
    most = 0
    for _ in range(60):
        method.step(ground)
        assert method.last is not None
        most = max(most, method.last.evaluations)
        if method.last.converged:
            break
    assert method.last is not None
    assert method.last.converged
    assert most <= 6
