"""Gradient descent beside its theory on a quadratic: theta_k = theta* + (I - lr H)^k (theta_0 - theta*)."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import downslope as ds

TABLE = ds.data.diabetes(standardise=True)
X, Y = TABLE.train
INPUTS = np.column_stack([X.double().numpy(), np.ones(len(X))])
TARGET = Y.double().numpy()
HESSIAN = 2 * INPUTS.T @ INPUTS / len(X)
EIGENVALUES, VECTORS = np.linalg.eigh(HESSIAN)
LIMIT = 2 / EIGENVALUES[-1]
BEST = np.linalg.lstsq(INPUTS, TARGET, rcond=None)[0]
LOWEST = float(np.mean((INPUTS @ BEST - TARGET) ** 2))


def problem(start: np.ndarray, target: torch.Tensor = Y) -> ds.Problem:
    """Linear regression that begins at `start`: ten weights and the intercept."""
    model = torch.nn.Linear(10, 1)
    with torch.no_grad():
        model.weight.copy_(torch.from_numpy(start[None, :10]))
        model.bias.copy_(torch.from_numpy(start[10:]))
    return ds.Problem(model=model.double(), objective="squared_error", train=(X, target))


def descend(what: ds.Problem, lr: float, steps: int) -> ds.Run:
    recipe = ds.Recipe(optimizer="gd", lr=lr, steps=steps, precision="float64")
    return ds.fit(what, recipe, folder=False, progress=False, observe=0)


def parameters(run: ds.Run) -> np.ndarray:
    return np.concatenate([p.detach().numpy().ravel() for p in run.model().parameters()])


def in_theory(start: np.ndarray, best: np.ndarray, lr: float, steps: int) -> np.ndarray:
    factors = (1 - lr * EIGENVALUES) ** steps
    return best + VECTORS @ (factors * (VECTORS.T @ (start - best)))


START = np.linspace(-40, 40, 11)


@pytest.mark.parametrize("share", [0.01, 0.5, 0.97, 1.0, 1.03])
@pytest.mark.parametrize("steps", [1, 30, 200])
def test_every_direction_shrinks_by_one_minus_lr_times_its_curvature(share: float, steps: int) -> None:
    lr = share * LIMIT
    found = parameters(descend(problem(START), lr, steps))
    np.testing.assert_allclose(found, in_theory(START, BEST, lr, steps), rtol=1e-7, atol=1e-7)


def test_the_loss_falls_just_below_the_limit_and_grows_just_above() -> None:
    along = BEST + 10 * VECTORS[:, -1]  # off the minimum in the steepest direction only
    below, above = (descend(problem(along), share * LIMIT, 100) for share in (0.99, 1.01))
    excess = 0.5 * EIGENVALUES[-1] * 100
    assert below.history.last("train_loss") - LOWEST < 0.05 * excess
    assert above.history.last("train_loss") - LOWEST > 20 * excess


def test_the_path_crosses_the_valley_at_each_step_above_half_of_the_limit_only() -> None:
    steepest = VECTORS[:, -1]
    off = problem(BEST + 10 * steepest)

    def side(share: float, steps: int) -> float:
        return float(steepest @ (parameters(descend(off, share * LIMIT, steps)) - BEST))

    assert [side(0.3, k) > 0 for k in (1, 2, 3)] == [True, True, True]
    assert [side(0.8, k) > 0 for k in (1, 2, 3)] == [False, True, False]


def test_the_best_fixed_rate_shrinks_the_error_by_kappa_minus_one_over_kappa_plus_one() -> None:
    low, top = EIGENVALUES[0], EIGENVALUES[-1]
    kappa = top / low
    best_rate = 2 / (low + top)
    start = BEST + VECTORS[:, 0] + VECTORS[:, -1]

    def factor(lr: float) -> float:
        a, b = (np.linalg.norm(parameters(descend(problem(start), lr, k)) - BEST) for k in (400, 401))
        return b / a

    assert factor(best_rate) == pytest.approx((kappa - 1) / (kappa + 1), rel=1e-9)
    for other in (0.9 * best_rate, 0.99 * best_rate, 0.5 * (best_rate + LIMIT)):
        assert factor(other) > factor(best_rate)


@pytest.mark.parametrize("varied", ["start", "terrain", "step"])
def test_each_of_start_terrain_and_step_moves_the_end_as_the_theory_says(varied: str) -> None:
    lr, steps = 0.5 * LIMIT, 25
    common = parameters(descend(problem(START), lr, steps))
    start, target, rate = START, Y, lr
    if varied == "start":
        start = -START
    elif varied == "terrain":  # other targets: the same valley elsewhere
        target = Y + 30 * X[:, 2]
    else:
        rate = 0.1 * LIMIT
    found = parameters(descend(problem(start, target), rate, steps))
    best = np.linalg.lstsq(INPUTS, target.double().numpy(), rcond=None)[0]
    np.testing.assert_allclose(found, in_theory(start, best, rate, steps), rtol=1e-6, atol=1e-6)
    assert np.linalg.norm(found - common) > 1.0
    again = parameters(descend(problem(START), lr, steps))
    np.testing.assert_array_equal(again, common)  # nothing but the three counts


def test_on_a_convex_terrain_the_start_is_forgotten_and_in_a_network_it_is_not() -> None:
    ends = [parameters(descend(problem(start), 0.9 * LIMIT, 6000)) for start in (START, -START)]
    np.testing.assert_allclose(ends[0], ends[1], atol=1e-6)
    network = ds.Problem(model="mlp", objective="squared_error", train=TABLE.train, arguments={"width": 8})
    recipe = ds.Recipe(optimizer="gd", lr=1e-4, steps=500)
    one, two = ds.fit_population(network, recipe, seeds=[0, 1], progress=False)
    assert abs(one.summary["train_loss"] - two.summary["train_loss"]) > 1.0
