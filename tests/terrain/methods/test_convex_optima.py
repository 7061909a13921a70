"""The convex optima of published data: Newton in a dozen iterations, L-BFGS in no more looks than SciPy's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from sklearn.datasets import load_breast_cancer, load_diabetes
from torch import Tensor, nn

from downslope.terrain.methods import LBFGS, Method, Newton, NewtonCG, NonlinearCG, TrustRegion
from tests.terrain.methods.problems import F, Path, numpy_of

OPTIMA = {1e-2: 0.09959137548470548, 1e-3: 0.05982793727108945}
"""Of the standardised breast cancer data: mean log-loss and lam/2 |w|^2, the bias free."""


def logistic(lam: float) -> F:
    x, y = load_breast_cancer(return_X_y=True)
    rows, target = torch.tensor((x - x.mean(0)) / x.std(0)), torch.tensor(y, dtype=torch.float64)

    def f(p: Tensor) -> Tensor:
        risk = nn.functional.binary_cross_entropy_with_logits(rows @ p[:-1] + p[-1], target)
        return risk + 0.5 * lam * p[:-1].square().sum()

    return f


@pytest.mark.parametrize("lam", OPTIMA)
def test_newton_is_within_1e12_of_the_minimum_in_at_most_twelve_iterations(lam: float) -> None:
    path = Path(logistic(lam), np.zeros(31), Newton, 12)
    assert min(path.losses) - OPTIMA[lam] < 1e-12


def test_newton_solves_least_squares_in_one_iteration() -> None:
    x, y = load_diabetes(return_X_y=True)
    rows, target = torch.tensor(x), torch.tensor(y)
    path = Path(lambda p: (rows @ p[:-1] + p[-1] - target).square().mean(), np.zeros(11), Newton, 1)
    assert path.losses[-1] == pytest.approx(2859.69634758675, rel=1e-13)


@pytest.mark.parametrize("lam", OPTIMA)
def test_lbfgs_takes_no_more_evaluations_than_scipys_to_the_same_gap(lam: float) -> None:
    f, gap = logistic(lam), 1e-8
    both, theirs = numpy_of(f), list[float]()

    def noted(x: Any) -> Any:
        found = both(x)
        theirs.append(found[0])
        return found

    options = {"ftol": 0, "gtol": 1e-9, "maxcor": 10}
    minimize(noted, np.zeros(31), jac=True, method="L-BFGS-B", options=options)
    path = Path(f, np.zeros(31), LBFGS, 0)
    while float(f(path.p.detach())) - OPTIMA[lam] > gap:
        path.method.step(path.ground)
    assert path.method.evaluations <= 1 + int(np.argmax(np.array(theirs) - OPTIMA[lam] <= gap))


@pytest.mark.parametrize("method", [NewtonCG, TrustRegion, NonlinearCG, LBFGS])
def test_the_others_end_at_the_same_minimum_and_say_that_they_are_there(method: type[Method]) -> None:
    path = Path(logistic(1e-2), np.zeros(31), method, 300)
    assert path.losses[-1] - OPTIMA[1e-2] < 1e-13
    assert path.method.last is not None
    assert path.method.last.converged
