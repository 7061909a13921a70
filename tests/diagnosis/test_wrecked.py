"""A rate under which the first steps wreck the model is told in a loop that is only looked at."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import downslope as ds
from downslope.core.run import Run
from downslope.diagnosis.diagnosis import Diagnosis
from downslope.diagnosis.early import quenched, stride, tossed, wrecked
from tests.diagnosis.runs import run
from tests.diagnosis.test_early import START, probed

NAME = "learning-rate-too-high"


def standing(up: float, many: int = 8, constant: float | None = 2.0) -> Run:
    """A run that is thrown up for some steps and then stands where a constant guess does."""
    made = run([2.0, *[2.0 * up] * many, *[2.0] * 191], start=START, constant=constant)
    made.facts["optimizer"] = {"name": "adam"}
    return made


def updated(made: Run, *first: float) -> Run:
    return probed(made, "update_ratio", {str(i): each for i, each in enumerate(first)})


def test_losses_in_a_row_are_compared_with_the_larger_of_start_and_constant() -> None:
    assert tossed(standing(1.8)) == pytest.approx(1.8)
    assert tossed(standing(1.8, constant=4.0)) == pytest.approx(0.9)
    assert tossed(standing(1e6, many=2)) == pytest.approx(1.0)  # two hard batches
    assert tossed(standing(1.8, constant=None)) == 0.0
    late = run([*[2.0] * 100, *[9.0] * 50, *[2.0] * 50], start=START, constant=2.0)
    assert tossed(late) == pytest.approx(1.0)


def test_sorted_targets_are_no_throw() -> None:
    made = standing(5.0)
    assert wrecked(made)
    made.facts["order"] = {"explained": 0.9, "expected": 0.02}
    assert not wrecked(made)


def test_a_stride_is_what_a_steady_step_makes_of_the_first() -> None:
    made = updated(standing(1.0), 0.2, 0.6, 1e12)  # a layer that begins at zero is one of three
    assert stride(made) == pytest.approx(0.6)
    made.facts["optimizer"] = {"name": "rmsprop", "alpha": 0.99}
    assert stride(made) == pytest.approx(0.06)
    made.facts["optimizer"] = {"name": "momentum", "momentum": 0.9}
    assert stride(made) == pytest.approx(6.0)
    assert stride(standing(1.0)) == 0.0


def test_a_small_throw_counts_where_steps_are_strides_or_the_gradient_is_gone() -> None:
    assert not wrecked(updated(standing(1.8), 0.1, 0.1, 0.1))
    assert wrecked(updated(standing(1.8), 0.9, 0.9, 0.9))
    assert not wrecked(updated(standing(1.2), 0.9, 0.9, 0.9))
    for later, gone in ((1e-4, True), (0.3, False)):
        made = standing(1.8)
        made.probes.log(1, "grad_norm", {"a": 1.0, "b": 2.0, "c": 1.0})
        made.probes.log(120, "grad_norm", {"a": later, "b": 2 * later, "c": 1.0})
        assert quenched(made) == pytest.approx(later)
        assert wrecked(made) is gone


def looped(model: nn.Module, rule: torch.optim.Optimizer, shuffled: bool = False) -> Diagnosis:
    digits = ds.data.digits(scale=16)
    x, y = torch.as_tensor(digits.train[0]), torch.as_tensor(digits.train[1])
    y = y[torch.randperm(len(y))] if shuffled else y
    monitor = ds.watch(model, rule)
    for _ in range(120):
        at = torch.randint(len(x), (32,))
        rule.zero_grad()
        loss = functional.cross_entropy(model(x[at]), y[at])
        loss.backward()
        rule.step()
        monitor.step(loss)
    found = monitor.diagnose()
    monitor.close()
    return found


def network(activation: Any = nn.ReLU, norm: Any = nn.LayerNorm) -> nn.Sequential:
    torch.manual_seed(0)
    width = 64
    blocks = [(nn.Linear(width, width), norm(width), activation()) for _ in range(3)]
    return nn.Sequential(*(each for block in blocks for each in block), nn.Linear(width, 10))


@pytest.mark.parametrize(
    ("rule", "norm"),
    [("Adam", nn.LayerNorm), ("AdamW", nn.LayerNorm), ("SGD", nn.BatchNorm1d), ("RMSprop", nn.LayerNorm)],
)
def test_a_loop_whose_rate_threw_the_weights_away_is_told_of_it(rule: str, norm: Any) -> None:
    model = network(norm=norm)
    rate = {"Adam": 0.2, "AdamW": 0.2, "SGD": 10.0, "RMSprop": 0.1}[rule]
    found = looped(model, getattr(torch.optim, rule)(model.parameters(), lr=rate))
    assert found.root is not None, str(found)
    assert (found.root.symptom, found.root.severity) == (NAME, "critical")
    assert "threw the loss up" in found.root.message


@pytest.mark.parametrize("rule", ["Adam", "RMSprop", "SGD"])
@pytest.mark.parametrize("norm", [nn.LayerNorm, nn.Identity])
def test_a_loop_at_a_usual_rate_that_learns_nothing_from_noise_is_not(rule: str, norm: Any) -> None:
    model = network(nn.Tanh, norm)
    rate = {"Adam": 2e-3, "RMSprop": 1e-3, "SGD": 0.3}[rule]
    found = looped(model, getattr(torch.optim, rule)(model.parameters(), lr=rate), shuffled=True)
    assert NAME not in found.symptoms, str(found)


def test_a_large_rate_that_works_is_no_finding() -> None:
    model = network(nn.GELU, nn.Identity)
    found = looped(model, torch.optim.Adam(model.parameters(), lr=0.02))
    assert NAME not in found.symptoms, str(found)
    assert np.isfinite(found.run.history.last("train_loss") or np.nan)
