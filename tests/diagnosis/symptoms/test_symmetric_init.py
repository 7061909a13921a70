from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from downslope.diagnosis.judge import judge
from downslope.diagnosis.symptom import Clear
from downslope.diagnosis.symptoms.init_scale import init_scale
from downslope.diagnosis.symptoms.symmetric_init import symmetric_init
from tests.diagnosis.runs import layer, run
from tests.diagnosis.symptoms.problems import (
    Functional,
    classes,
    diagnosed,
    net,
    numbers,
    problem,
    recipe,
)


def filled(make: Any, value: float) -> Any:
    def made() -> nn.Module:
        model = make()
        for p in model.parameters():
            nn.init.constant_(p, value)
        return model

    return made


@pytest.mark.parametrize("value", [0.0, 0.1])
@pytest.mark.parametrize("make", [lambda: Functional(12, 4), lambda: net(12, 4)], ids=["own", "modules"])
def test_equal_units_are_the_root_and_another_draw_cures_them(make: Any, value: float) -> None:
    sick = problem(classes(), filled(make, value), "cross_entropy", "accuracy")
    result = diagnosed(sick, recipe())
    assert result.root is not None
    assert result.root.symptom == "symmetric-init"
    assert diagnosed(*result.root.remedies[0].apply(sick, recipe())).healthy


def test_equal_units_do_stay_alike() -> None:
    sick = problem(numbers(), filled(lambda: Functional(6, 1), 0.05), "mse", "r2")
    weight = diagnosed(sick, recipe()).run.model("last").get_submodule("first").get_parameter("weight")
    assert torch.allclose(weight, weight[:1].expand_as(weight), atol=1e-5)


def test_a_last_layer_at_zero_is_healthy() -> None:
    def make() -> nn.Module:
        model = Functional(12, 4)
        nn.init.zeros_(model.head.weight)
        return model

    result = diagnosed(problem(classes(), make, "cross_entropy", "accuracy"), recipe())
    assert result.healthy


def test_one_odd_unit_breaks_the_symmetry() -> None:
    layers = [layer("0"), layer("2", equal_rows=False), layer("4", equal_rows=True)]
    assert "symmetric-init" in dict(judge(run(start={"loss": 2.3, "layers": layers, "norms": 0})).cleared)


def test_the_scale_of_zero_weights_stands_under_their_symmetry() -> None:
    sick = problem(classes(), filled(lambda: net(12, 4), 0.0), "cross_entropy", "accuracy")
    assert [each.symptom for each in diagnosed(sick, recipe()).findings] == ["symmetric-init"]


def test_a_layer_of_zeros_whose_units_parted_is_not_put_down_to_its_scale() -> None:
    zeros = layer("0", weight_rms=0.0, gain=0.0, equal_rows=True)
    start = {"loss": 2.35, "layers": [zeros, layer("2"), layer("4")], "norms": 0}
    parted = run(start=start, alike={"0": {"still": False, "moved": True}})
    assert isinstance(init_scale(parted), Clear)
    assert not isinstance(init_scale(run(start=start, alike={"0": {"still": True, "moved": False}})), Clear)
    start["layers"][0]["equal_rows"] = False  # something else is added to what they make
    assert isinstance(init_scale(run(start=start)), Clear)


class Gated(nn.Module):
    """An MLP for 12 numbers, and a gate of two layers by which its better features come in."""

    def __init__(self, *, both: bool) -> None:
        super().__init__()
        self.body, self.gate = nn.Linear(12, 4), nn.Sequential(nn.Linear(12, 32, bias=False), nn.ReLU())
        self.out = nn.Linear(32, 4, bias=False)
        nn.init.zeros_(self.out.weight)
        if both:
            nn.init.zeros_(self.gate[0].weight)

    def forward(self, x: torch.Tensor, again: torch.Tensor) -> torch.Tensor:
        """Twice (n, 12) to (n, 4): of two inputs no plain network says what can be reached."""
        return self.body(x) + self.out(self.gate(again))


def rings() -> Any:
    """Four classes by the distance from the middle, in two of 12 numbers, and a little in a third."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(1200, 12, generator=g)
    y = (x[:, :2].norm(dim=1) / 0.75).long().clamp(max=3)
    x[:, 2] += 0.5 * y
    return (x[:900], x[:900], y[:900]), (x[900:], x[900:], y[900:])


@pytest.mark.parametrize("both", [True, False])
def test_a_gate_both_of_whose_layers_are_zero_is_told_though_the_rest_learns(both: bool) -> None:
    task = problem(rings(), lambda: Gated(both=both), "cross_entropy", "accuracy")
    result = diagnosed(task, recipe(steps=600))
    assert ("symmetric-init" in result.symptoms) is both
    if both:
        assert result.root is not None
        assert result.root.symptom == "symmetric-init"
        assert result.run.facts["trials"]["symmetric-init"]["share"] > 0.2


@pytest.mark.parametrize(("moved", "suspected"), [(False, True), (True, False)])
def test_a_layer_that_nothing_ever_moved_is_tried_though_the_run_does_well(
    moved: bool, suspected: bool
) -> None:
    layers = [layer("0", equal_rows=True), layer("2"), layer("4")]
    well = run(
        np.geomspace(2.3, 0.5, 200),
        start={"loss": 2.35, "layers": layers, "norms": 0},
        alike={"0": {"still": True, "moved": moved}},
        references=[{"what": "a plain network", "loss": 0.5}],
        trials={},
    )
    found = symmetric_init(well)
    assert isinstance(found, Clear) is not suspected
    del well.facts["trials"]
    assert isinstance(symmetric_init(well), Clear)
