"""Model, objective and process are exchanged one at a time; each answer is known from elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linprog

import downslope as ds

X, Y = ds.data.diabetes(standardise=True).train
X = X[:, [2, 3, 8]]  # body-mass index, blood pressure, s5: well conditioned
INPUTS = np.column_stack([X.double().numpy(), np.ones(len(X))])
TARGET = Y.double().numpy()
PROBLEM = ds.Problem(model="linear", objective="squared_error", train=(X, Y))


def weights(run: ds.Run) -> np.ndarray:
    """Weights and intercept of a fitted linear model."""
    weight, bias = run.model().parameters()
    return np.append(weight.detach().double().numpy().ravel(), bias.detach().numpy())


def fitted(problem: ds.Problem, **how: object) -> ds.Run:
    recipe = ds.Recipe(batch_size="full", precision="float64", **how)
    return ds.fit(problem, recipe, folder=False, progress=False, observe=0)


@pytest.mark.parametrize(
    "process",
    [
        {"optimizer": "gd", "lr": 0.3, "steps": 300},
        {"optimizer": "momentum", "lr": 0.1, "steps": 600},
        {"optimizer": "nesterov", "lr": 0.1, "steps": 600},
        {"optimizer": "adam", "lr": 3.0, "steps": 1500, "schedule": "cosine"},
    ],
    ids=lambda process: process["optimizer"],
)
def test_one_objective_has_one_minimum_whatever_the_process(process: dict[str, object]) -> None:
    exact, *_ = np.linalg.lstsq(INPUTS, TARGET, rcond=None)
    np.testing.assert_allclose(weights(fitted(PROBLEM, **process)), exact, rtol=1e-6)


def test_another_objective_is_another_problem_with_another_minimum() -> None:
    run = fitted(
        PROBLEM.edit(objective="absolute_error"), optimizer="adam", lr=3.0, steps=3000, schedule="cosine"
    )
    found = np.abs(INPUTS @ weights(run) - TARGET).mean()
    lowest = least_absolute_error()
    assert lowest <= found + 1e-9
    assert found == pytest.approx(lowest, rel=1e-4)
    squared, *_ = np.linalg.lstsq(INPUTS, TARGET, rcond=None)
    assert np.abs(INPUTS @ squared - TARGET).mean() > lowest + 0.05  # so the two minima are not one


def least_absolute_error() -> float:
    """The smallest mean absolute error of a linear model, as a linear programme."""
    n, d = INPUTS.shape
    cost = np.concatenate([np.zeros(d), np.full(n, 1 / n)])
    signs = np.block([[INPUTS, -np.eye(n)], [-INPUTS, -np.eye(n)]])
    bounds = [(None, None)] * d + [(0, None)] * n
    return float(linprog(cost, A_ub=signs, b_ub=np.concatenate([TARGET, -TARGET]), bounds=bounds).fun)
