"""Momentum as a weighted sum of gradients, its factor, and its rate beside the theory on a quadratic."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import downslope as ds

BETAS = (0.5, 0.9, 0.95, 0.99)
BACKENDS = ("reference", "eager", "native")


def velocities(gradients: np.ndarray, backend: str = "reference", **settings: float) -> np.ndarray:
    """What is stepped along at every step, for a weight with these gradients and lr 1."""
    w = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = ds.optim.SGD([w], lr=1.0, backend=backend, **settings)
    places = [0.0]
    for g in gradients:
        w.grad = torch.full_like(w, float(g))
        optimizer.step()
        places.append(float(w.detach()))
    return -np.diff(places)


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_velocity_is_the_sum_of_past_gradients_weighted_by_powers_of_beta(
    beta: float, backend: str
) -> None:
    g = np.random.default_rng(0).normal(size=80)
    by_hand = [sum(beta**age * g[t - age] for age in range(t + 1)) for t in range(len(g))]
    np.testing.assert_allclose(velocities(g, backend, momentum=beta), by_hand, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("backend", BACKENDS)
def test_nesterovs_step_is_the_gradient_and_the_velocity_one_step_ahead(backend: str) -> None:
    g = np.random.default_rng(2).normal(size=80)
    sums = np.array([sum(0.9**age * g[t - age] for age in range(t + 1)) for t in range(len(g))])
    found = velocities(g, backend, momentum=0.9, nesterov=True)
    np.testing.assert_allclose(found, g + 0.9 * sums, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(("beta", "window"), [(0.5, 2), (0.9, 10), (0.95, 20), (0.99, 100)])
def test_a_gradient_that_persists_adds_up_to_the_window(beta: float, window: int) -> None:
    assert velocities(np.ones(2000), momentum=beta)[-1] == pytest.approx(window)


@pytest.mark.parametrize("beta", BETAS)
def test_with_the_factor_one_minus_beta_it_is_a_mean_and_the_rate_grows_by_the_window(
    beta: float,
) -> None:
    g = np.random.default_rng(1).normal(loc=1.0, size=4000)
    summed = velocities(g, momentum=beta)
    mean = velocities(g, momentum=beta, dampening=beta)
    assert mean[-500:].mean() == pytest.approx(g[-500:].mean(), rel=0.05 / (1 - beta) ** 0.5)
    late = slice(3000, None)  # torch's first velocity is the whole gradient; by then it is forgotten
    np.testing.assert_allclose(summed[late] * (1 - beta), mean[late], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("debias", [False, True])
def test_the_average_from_zero_is_the_mean_of_past_gradients_weighted_by_powers_of_beta(
    beta: float, debias: bool
) -> None:
    g = np.random.default_rng(3).normal(size=60)
    w = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = ds.optim.AveragedMomentum([w], lr=1.0, momentum=beta, debias=debias)
    for t, each in enumerate(g):
        before = float(w.detach())
        w.grad = torch.full_like(w, float(each))
        optimizer.step()
        powers = beta ** np.arange(t, -1, -1.0)
        mean = (powers * g[: t + 1]).sum() * (1 / powers.sum() if debias else 1 - beta)
        assert before - float(w.detach()) == pytest.approx(mean, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("beta", BETAS)
def test_directions_that_conflict_cancel(beta: float) -> None:
    zigzag = velocities(np.resize([1.0, -1.0], 3000), momentum=beta)
    assert abs(zigzag[-1]) == pytest.approx(1 / (1 + beta))


X, Y = ds.data.diabetes(standardise=True).train
INPUTS = np.column_stack([X.double().numpy(), np.ones(len(X))])
EIGENVALUES = np.linalg.eigvalsh(2 * INPUTS.T @ INPUTS / len(X))
EXACT = np.linalg.lstsq(INPUTS, Y.double().numpy(), rcond=None)[0]
LOWEST = float(np.mean((INPUTS @ EXACT - Y.double().numpy()) ** 2))
PROBLEM = ds.Problem(model="linear", objective="squared_error", train=(X, Y), valid=(X, Y))


def in_theory(optimizer: str, lr: float, beta: float) -> float:
    """The largest root of the recurrence over all directions: what a step multiplies the error by."""
    radii = []
    for a in lr * EIGENVALUES:
        if optimizer == "momentum":
            roots = np.roots([1, -(1 + beta - a), beta])
        else:
            roots = np.roots([1, -(1 + beta) * (1 - a), beta * (1 - a)])
        radii.append(np.abs(roots).max())
    return float(max(radii))


@pytest.mark.parametrize("optimizer", ["momentum", "nesterov"])
@pytest.mark.parametrize(("beta", "lr"), [(0.5, 0.15), (0.9, 0.02)])
def test_the_measured_rate_is_that_of_the_recurrence(optimizer: str, beta: float, lr: float) -> None:
    recipe = ds.Recipe(
        optimizer=optimizer, lr=lr, momentum=beta, steps=900, batch_size="full", precision="float64"
    )
    run = ds.fit(PROBLEM, recipe, folder=False, progress=False, observe=0)
    excess = run.history.series("train_loss").values - LOWEST
    measured = (excess[-1] / excess[-401]) ** (1 / 800)
    assert measured == pytest.approx(in_theory(optimizer, lr, beta), abs=5e-5)


def after(optimizer: str, lr: float, batch_size: int | str, steps: int) -> float:
    """Loss above the minimum after so many steps, mean over seeds."""
    recipe = ds.Recipe(optimizer=optimizer, lr=lr, momentum=0.9, steps=steps, batch_size=batch_size)
    runs = ds.fit_population(PROBLEM, recipe, seeds=range(4), progress=False)
    name = "train_loss" if batch_size == "full" else "valid_loss"
    return float(np.mean([run.history.series(name).values[-5:].mean() for run in runs])) - LOWEST


@pytest.mark.parametrize(("lr", "early"), [(0.003, 60), (0.01, 40)])
def test_nesterovs_correction_helps_a_smooth_descent_and_gains_little_under_noise(
    lr: float, early: int
) -> None:
    assert after("nesterov", lr, "full", early) < 0.75 * after("momentum", lr, "full", early)
    assert after("nesterov", lr, 8, 900) > 0.85 * after("momentum", lr, 8, 900)
