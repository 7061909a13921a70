"""Exploding gradients and saturated units: models whose start, or whose shape, gives the gradient away."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import downslope as ds
from downslope.core.run import Run
from downslope.data import digits
from downslope.diagnosis.symptom import Clear, Unknown
from downslope.diagnosis.symptoms.exploding_gradient import exploding_gradient
from downslope.diagnosis.symptoms.saturated_units import saturated_units
from downslope.diagnosis.symptoms.vanishing_gradient import vanishing_gradient
from tests.diagnosis.runs import layer, run
from tests.diagnosis.symptoms.problems import Pair, classes, diagnosed, found, problem, recipe
from tests.diagnosis.symptoms.trying import FAR, finding, tried

DIGITS = digits(scale=16.0, seed=1)
PARTS: tuple[Pair, Pair] = (DIGITS.train, DIGITS.valid)  # type: ignore[assignment]


class Growing(nn.Module):
    """A recurrence with ReLU whose matrix is `gain` times the identity: eight steps grow by gain^7."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.cell, self.out = nn.RNN(8, 24, nonlinearity="relu", batch_first=True), nn.Linear(24, 10)
        nn.init.eye_(self.cell.weight_hh_l0)
        nn.init.normal_(self.cell.weight_ih_l0, 0.0, 0.1)
        with torch.no_grad():
            self.cell.weight_hh_l0.mul_(gain)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.cell(x.reshape(-1, 8, 8))[0][:, -1])


def growing(gain: float) -> tuple[ds.Problem, ds.Recipe]:
    how = recipe(optimizer="sgd", lr=0.01, momentum=0.9, epochs=9, batch_size=64)
    return problem(PARTS, lambda: Growing(gain), "cross_entropy", "accuracy"), how


def test_a_recurrence_that_triples_a_step_explodes_because_of_its_start() -> None:
    result = diagnosed(*growing(3.0))
    assert result.root is not None
    assert result.root.symptom in ("init-scale", "exploding-gradient")
    told = found(result, "exploding-gradient")
    assert told is not None
    assert told.evidence.value == pytest.approx(3.0**7, rel=0.2)


def test_a_recurrence_that_keeps_its_state_is_healthy() -> None:
    assert diagnosed(*growing(1.0)).healthy


def deep(gradients: list[float], final: float = 2.3, share: float | None = None, **facts: Any) -> Run:
    layers = [layer(str(2 * i), grad_rms=g) for i, g in enumerate(gradients)]
    made = run(
        np.geomspace(2.3, final, 200), start={"loss": 2.35, "layers": layers, "norms": 0}, references=FAR
    )
    made.facts |= facts
    return tried(made, "exploding-gradient", share)


def test_the_second_largest_of_the_early_layers_counts() -> None:
    told = finding(exploding_gradient(deep([6e-2, 9e-2, 1e-2, 1e-3], share=0.5)))
    assert told.evidence.value == pytest.approx(60.0)
    assert told.where.modules == ("0", "2")
    assert isinstance(exploding_gradient(deep([9e2, 1e-3, 1e-3, 1e-3])), Clear)  # the scale of its inputs


def test_a_run_that_does_well_a_trial_that_failed_and_shallow_models_are_clear() -> None:
    steep = [1.0, 1.0, 1e-3]
    assert isinstance(exploding_gradient(deep(steep, final=0.1)), Clear)
    assert isinstance(exploding_gradient(deep(steep, share=0.05)), Clear)
    assert isinstance(exploding_gradient(deep([1.0, 1e-3])), Clear)
    assert (
        finding(exploding_gradient(deep([1.1, 1.1, 1e-3]))).severity == "critical"
    )  # beyond 20 times the bar
    assert finding(exploding_gradient(deep([0.9, 0.9, 1e-3]))).severity == "info"


def test_growth_through_time_counts_as_growth_through_layers() -> None:
    lags = {"ratio": 200.0, "modules": ["cell"], "steps": 30, "profile": []}
    told = finding(exploding_gradient(deep([1e-3], share=0.4, lags=lags)))
    assert told.where.modules == ("cell",)
    assert isinstance(exploding_gradient(deep([1e-3], lags=lags | {"ratio": 2.0})), Clear)


# -- saturated units -------------------------------------------------------------------------------------


class Squashed(nn.Module):
    """Two layers of tanh called as functions, their biases pushed up and down by `by`."""

    def __init__(self, by: float) -> None:
        super().__init__()
        self.a, self.b, self.out = nn.Linear(12, 32), nn.Linear(32, 32), nn.Linear(32, 4)
        with torch.no_grad():
            for each in (self.a, self.b):
                each.bias[::2] += by
                each.bias[1::2] -= by

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.tanh(self.b(torch.tanh(self.a(x)))))


def squashed(by: float) -> tuple[ds.Problem, ds.Recipe]:
    return problem(classes(), lambda: Squashed(by), "cross_entropy", "accuracy"), recipe()


def test_units_pushed_to_their_ends_are_the_root_and_a_new_start_cures_them() -> None:
    task, how = squashed(20.0)
    result = diagnosed(task, how)
    assert result.root is not None
    assert result.root.symptom == "saturated-units"
    assert diagnosed(*result.root.remedies[0].apply(task, how)).healthy


@pytest.mark.parametrize("by", [0.0, 2.0])
def test_units_about_zero_and_a_little_aside_are_healthy(by: float) -> None:
    assert diagnosed(*squashed(by)).healthy


def ends(shares: list[list[float]], final: float = 2.3, share: float | None = None) -> Run:
    """Probes of layers "1" and "3"; a layer "5" is the output's own."""
    made = run(np.geomspace(2.3, final, 200), references=FAR)
    made.facts["activations"] = {n: {"kind": "tanh", "after": "0"} for n in ("1", "3", "5")}
    made.facts["output"] |= {"activation": "tanh", "module": "5"}
    for step, row in zip(range(0, 200, 20), [*shares, *[shares[-1]] * (10 - len(shares))], strict=True):
        made.probes.log(step, "saturated_fraction", dict(zip(("1", "3", "5"), [*row, 1.0], strict=True)))
    return tried(made, "saturated-units", share)


def test_seven_tenths_of_a_layer_at_its_ends_are_told_with_where_and_since_when() -> None:
    told = finding(saturated_units(ends([[0.1, 0.2], [0.1, 0.5], [0.1, 0.8]], share=0.5)))
    assert told.where.modules == ("3",)
    assert told.where.steps == (40, 180)
    assert "20% at the start" in told.message
    assert isinstance(saturated_units(ends([[0.1, 0.69]])), Clear)


def test_a_run_that_does_well_and_a_trial_that_failed_are_clear() -> None:
    assert isinstance(saturated_units(ends([[0.1, 0.8]], final=0.1)), Clear)
    assert isinstance(saturated_units(ends([[0.1, 0.8]], share=0.05)), Clear)
    assert finding(saturated_units(ends([[0.1, 0.96]]))).severity == "critical"
    assert finding(saturated_units(ends([[0.1, 0.8]]))).severity == "info"


@pytest.mark.parametrize("check", [exploding_gradient, vanishing_gradient])
def test_a_last_layer_of_zeros_makes_no_gradient_fade_or_grow(check: Any) -> None:
    late = layer("4", weight_rms=0.0, gain=0.0, grad_rms=1e-3)
    layers = [layer("0", grad_rms=0.0), layer("2", grad_rms=0.0), late]
    assert isinstance(check(run(start={"loss": 2.3, "layers": layers, "norms": 0})), Clear)
    none = [each | {"grad_rms": 0.0} for each in layers]
    assert isinstance(check(run(start={"loss": 2.3, "layers": none, "norms": 0})), Clear | Unknown)
