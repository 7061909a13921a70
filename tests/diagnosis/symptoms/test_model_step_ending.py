"""Symptoms of the model, the step and the ending: one sick run of each, its twin, and its numbers by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from downslope.core.run import Run
from downslope.data import digits
from downslope.diagnosis.judge import judge
from downslope.diagnosis.swing import leap, swing
from downslope.diagnosis.symptom import registry
from downslope.models.lasting import LastingGRU, LastingLSTM
from tests.diagnosis.runs import run
from tests.diagnosis.symptoms.problems import Pair, diagnosed, net, numbers, problem, recipe

DIGITS = digits(scale=16.0, seed=1)
PARTS: tuple[Pair, Pair] = (DIGITS.train, DIGITS.valid)  # type: ignore[assignment]


def on_digits(make: Any) -> Any:
    return problem(PARTS, make, "cross_entropy", "accuracy")


class Normed(nn.Module):
    def __init__(self, momentum: float) -> None:
        super().__init__()
        self.first, self.norm = nn.Linear(64, 64), nn.BatchNorm1d(64, momentum=momentum)
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(functional.relu(self.norm(self.first(x))))


class AlwaysDropping(nn.Module):
    """Dropout called without ``training=self.training``."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(64, 64), nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(functional.dropout(functional.relu(self.first(x)), 0.8))


class Late(nn.Module):
    """Reads a sequence and answers from its last state."""

    def __init__(self, kind: Any = nn.RNN) -> None:
        super().__init__()
        self.cell, self.head = kind(2, 24, batch_first=True), nn.Linear(24, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cell(x)[0][:, -1])


def first_sign(steps: int) -> tuple[Pair, Pair]:
    """The answer is the sign of the first number of the sequence."""
    x = torch.randn(1000, steps, 2, generator=torch.Generator().manual_seed(0))
    y = (x[:, 0, 0] > 0).long()
    return (x[:800], y[:800]), (x[800:], y[800:])


class Dropping(nn.Module):
    """Dropout called by the forward, in no module."""

    def __init__(self, share: float, width: int = 64) -> None:
        super().__init__()
        self.first, self.head, self.share = nn.Linear(64, width), nn.Linear(width, 10), share

    def forward(self, x: Tensor) -> Tensor:
        return self.head(functional.dropout(functional.relu(self.first(x)), self.share, self.training))


def dropping(share: float) -> Any:
    return lambda: nn.Sequential(
        nn.Linear(64, 64), nn.ReLU(), nn.Dropout(share), nn.Linear(64, 10)
    )  # fmt: skip


SICK: dict[str, tuple[str, Any, Any]] = {
    "running means that hardly run": ("mode-gap", on_digits(lambda: Normed(1e-4)), recipe(epochs=12)),
    "dropout in eval mode": ("mode-gap", on_digits(AlwaysDropping), recipe(epochs=30)),
    "dropout of 95 %": ("over-regularised", on_digits(dropping(0.97)), recipe(epochs=15)),
    "dropout in a function": ("over-regularised", on_digits(lambda: Dropping(0.99)), recipe(epochs=15)),
    "dropout that throws the run out of the numbers": (
        "over-regularised", on_digits(lambda: Dropping(0.995)),
        recipe(optimizer="sgd", lr=0.5, momentum=0.9, epochs=15),
    ),
    "a fifth of an epoch": ("too-few-steps", on_digits(lambda: net(64, 10)), recipe(steps=8)),
    "a few batches more": (
        "too-few-steps", on_digits(lambda: net(64, 10)), recipe(optimizer="sgd", lr=0.03, steps=40),
    ),
    "a rate at which ten times the steps do not arrive": (
        "learning-rate-too-low", on_digits(lambda: net(64, 10)), recipe(optimizer="sgd", lr=1e-5, steps=40),
    ),
    "a decay of 0.3": (
        "over-regularised", on_digits(lambda: net(64, 10)),
        recipe(optimizer="sgd", lr=0.1, weight_decay=0.3, epochs=15),
    ),
    "a lag of 60 steps": (
        "long-term-dependency", problem(first_sign(60), Late, "cross_entropy", "accuracy"), recipe(epochs=20),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SICK)
def test_the_root_is_named(name: str) -> None:
    symptom, task, how = SICK[name]
    result = diagnosed(task, how)
    assert result.root is not None
    assert result.root.symptom == symptom


HEALTHY: dict[str, tuple[Any, Any]] = {
    "batch norm": (on_digits(lambda: Normed(0.1)), recipe(epochs=12)),
    "dropout of 30 % in a function": (on_digits(lambda: Dropping(0.3)), recipe(epochs=25)),
    "dropout of 30 %": (on_digits(dropping(0.3)), recipe(epochs=25)),
    "a decay of 0.1 under AdamW": (
        on_digits(lambda: net(64, 10)), recipe(optimizer="adamw", weight_decay=0.1)
    ),
    "a short lag": (problem(first_sign(5), Late, "cross_entropy", "accuracy"), recipe(epochs=20)),
    "long enough": (
        on_digits(lambda: net(64, 10)), recipe(optimizer="sgd", lr=0.05, momentum=0.9, epochs=15),
    ),
    "numbers": (problem(numbers(), lambda: net(6, 1), "mse", "r2"), recipe(epochs=40)),
}  # fmt: skip


@pytest.mark.parametrize("name", HEALTHY)
def test_the_twin_is_healthy(name: str) -> None:
    assert diagnosed(*HEALTHY[name]).healthy


def test_a_wave_is_found_with_its_period_and_noise_is_none() -> None:
    steps = np.arange(200)
    found = swing(run(2.0 + np.sin(2 * math.pi * steps / 25)))
    assert found is not None
    assert abs(found.period - 25) <= 1
    assert found.strength > 0.95
    for seed in range(20):
        noise = swing(run(2.0 + 0.3 * np.random.default_rng(seed).standard_normal(200)))
        assert noise is None or noise.strength < 0.5


def test_a_leap_is_found_at_its_step() -> None:
    losses = np.geomspace(2.0, 0.1, 100)
    losses[60:] = 50.0
    found = leap(run(losses))
    assert found is not None
    assert found.step == 61
    assert found.times == pytest.approx(50.0 / np.median(losses[40:60]))


@pytest.mark.parametrize(("kind", "gates"), [(LastingLSTM, 4), (LastingGRU, 3)])
def test_gates_start_with_a_memory_of_the_span_that_is_asked(kind: Any, gates: int) -> None:
    module = kind(steps=100, input_size=3, hidden_size=64)
    bias = module.bias_ih_l0.detach() + module.bias_hh_l0.detach()
    keep = bias[64:128]
    assert len(bias) == gates * 64
    assert float(keep.min()) >= 0
    assert float(keep.max()) <= math.log(99) + 1e-6
    assert float(keep.exp().mean()) == pytest.approx(50, rel=0.25)  # u is uniform in [1, 99]


@pytest.mark.parametrize("made", [Run(), run([]), run([2.3]), run([float("nan")] * 3)], ids=range(4))
def test_no_symptom_raises_on_a_broken_run(made: Run) -> None:
    result = judge(made)
    assert all("check failed" not in why for _, why in result.not_checked)
    known = {each for each, _ in (*result.cleared, *result.not_checked)} | set(result.symptoms)
    assert known == set(registry())
