"""What a schedule does to the rate, beside torch's, and to the jitter that mini-batches leave."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import downslope as ds

X, Y = ds.data.diabetes(standardise=True).train
X = X[:, [2, 3, 8]]
INPUTS = np.column_stack([X.double().numpy(), np.ones(len(X))])
EXACT = np.linalg.lstsq(INPUTS, Y.double().numpy(), rcond=None)[0]
LOWEST = float(np.mean((INPUTS @ EXACT - Y.double().numpy()) ** 2))
PROBLEM = ds.Problem(model="linear", objective="squared_error", train=(X, Y), valid=(X, Y))
STEPS = 400


def torchs(name: str, optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
    rate = torch.optim.lr_scheduler
    return {
        "step": lambda: rate.StepLR(optimizer, step_size=134, gamma=0.1),
        "exponential": lambda: rate.ExponentialLR(optimizer, gamma=0.01 ** (1 / STEPS)),
        "cosine": lambda: rate.CosineAnnealingLR(optimizer, T_max=STEPS),
        "inverse_sqrt": lambda: rate.LambdaLR(optimizer, lambda t: 1 / np.sqrt(1 + t / 40)),
        "polynomial": lambda: rate.LinearLR(optimizer, 1.0, 0.0, total_iters=STEPS),
        "cosine_restarts": lambda: rate.CosineAnnealingWarmRestarts(optimizer, T_0=58, T_mult=2),
        "one_cycle": lambda: rate.OneCycleLR(optimizer, 0.02, STEPS, cycle_momentum=False),
    }[name]()


@pytest.mark.parametrize(
    "name",
    ["step", "exponential", "cosine", "inverse_sqrt", "polynomial", "cosine_restarts", "one_cycle"],
)
def test_the_rate_of_a_run_is_the_one_that_torchs_scheduler_gives(name: str) -> None:
    recipe = ds.Recipe(optimizer="sgd", lr=0.02, steps=STEPS, schedule=name)
    run = ds.fit(PROBLEM, recipe, folder=False, progress=False, observe=0)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.02)
    scheduler = torchs(name, optimizer)
    rates: list[float] = []
    for _ in range(STEPS):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if len(rates) < STEPS:  # one cycle has no step beyond its last
            scheduler.step()
    np.testing.assert_allclose(run.history.series("lr").values, rates, rtol=1e-7, atol=1e-12)


def jitter(lr: float, schedule: str | None = None) -> float:
    """Loss above the exact minimum: mean over the second half of the run, or at its end under a schedule."""
    recipe = ds.Recipe(optimizer="sgd", lr=lr, batch_size=8, epochs=30, schedule=schedule)
    runs = ds.fit_population(PROBLEM, recipe, seeds=range(3), progress=False)
    tails = [run.history.series("valid_loss").values for run in runs]
    kept = [tail[-1:] if schedule else tail[len(tail) // 2 :] for tail in tails]
    return float(np.mean(kept)) - LOWEST


def test_the_jitter_of_a_constant_rate_grows_with_the_rate() -> None:
    small, middle, large = (jitter(lr) for lr in (0.02, 0.06, 0.18))
    assert 0 < 2 * small < middle < large / 2


@pytest.mark.parametrize(
    "name",
    ["step", "exponential", "cosine", "inverse_sqrt", "polynomial", "one_cycle", "warmup_stable_decay"],
)
def test_under_every_schedule_the_jitter_dies_away(name: str) -> None:
    constant, scheduled = jitter(0.1), jitter(0.1, name)
    assert scheduled < constant / (2 if name == "inverse_sqrt" else 10)
