from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from downslope.diagnosis.judge import judge
from downslope.diagnosis.symptom import Clear
from downslope.diagnosis.symptoms.init_scale import init_scale
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
