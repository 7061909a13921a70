"""Weights drawn from 0 to 1: every unit of a deep net says nearly the same, and the run stands."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

import downslope as ds
from downslope.core.edits import Reinitialise
from downslope.diagnosis.judge import judge
from downslope.diagnosis.measure.matrices import lean
from downslope.diagnosis.symptom import Clear
from downslope.diagnosis.symptoms.init_scale import LEANING, init_scale
from tests.diagnosis.runs import layer, learnt, run
from tests.diagnosis.symptoms.trying import FAR, finding, trial


def net(draw: Callable[[Tensor], object], depth: int = 5, act: type[nn.Module] = nn.Tanh) -> nn.Module:
    sizes = [2, *[12] * depth, 2]
    layers = [nn.Linear(a, b) for a, b in pairwise(sizes)]
    for each in layers:
        draw(each.weight.data)
        nn.init.zeros_(each.bias)
    return nn.Sequential(*(part for each in layers[:-1] for part in (each, act())), layers[-1])


def problem(draw: Callable[[Tensor], object], **changes: int) -> ds.Problem:
    angle = 6.283 * torch.rand(400, generator=torch.Generator().manual_seed(0))
    y = (torch.arange(400) % 2).long()
    x = torch.stack([angle.cos(), angle.sin()], 1) * (1.5 - y[:, None].float())
    parts = {"train": (x[:300], y[:300]), "valid": (x[300:], y[300:])}
    return ds.Problem(
        model=lambda: net(draw, **changes), objective="cross_entropy", metric="accuracy", **parts
    )


RECIPE = ds.Recipe(optimizer="sgd", lr=0.05, momentum=0.9, batch_size=30, epochs=40)


def test_the_mean_of_weights_in_their_size_is_that_of_their_distribution() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = torch.rand(400, 400, generator=generator)
    assert lean(drawn) == pytest.approx(0.5 / (1 / 3) ** 0.5, abs=0.01)
    assert lean(2 * drawn - 1) < 0.02
    assert lean(torch.zeros(4, 4)) == 0.0


def test_a_net_whose_weights_are_of_one_sign_is_told_and_its_twin_is_healthy() -> None:
    sick = ds.diagnose(
        problem(lambda w: w.uniform_(0, 1)), RECIPE, budget="400 steps", folder=False, progress=False
    )
    assert sick.root is not None
    assert sick.root.symptom == "init-scale"
    assert "of one sign" in sick.root.message
    assert isinstance(sick.root.remedies[0], Reinitialise)
    twin = ds.diagnose(
        problem(nn.init.xavier_normal_), RECIPE, budget="400 steps", folder=False, progress=False
    )
    assert twin.healthy


def test_a_shallow_net_that_learns_with_such_weights_is_healthy() -> None:
    odd = problem(lambda w: w.uniform_(0, 1), depth=1)
    recipe = ds.Recipe(optimizer="adam", lr=0.02, batch_size=30, epochs=40)
    assert ds.diagnose(odd, recipe, budget="400 steps", folder=False, progress=False).healthy


LEANING_LAYERS = [layer("0", lean=0.87), layer("2", lean=0.87), layer("4", lean=0.01)]


def start(layers: list[dict[str, object]]) -> dict[str, object]:
    return {"loss": 2.3, "layers": layers, "norms": 0}


def test_the_evidence_is_the_leaning_layer() -> None:
    made = run(start=start(LEANING_LAYERS), references=FAR, trials={"init-scale": trial(0.9)})
    found = finding(init_scale(made))
    assert found.evidence.value == 0.87
    assert found.evidence.threshold == LEANING
    assert found.where.modules == ("0",)


@pytest.mark.parametrize(
    "layers",
    [
        [layer("0", lean=0.4), layer("2"), layer("4", lean=0.9)],
        [layer("0", lean=0.9, fan_in=2, fan_out=4), layer("2"), layer("4")],
        [layer("0", lean=1.0, equal_rows=True), layer("2"), layer("4")],
        [layer("0", lean=0.9, trainable=False), layer("2"), layer("4")],
    ],
    ids=["the last may", "few weights", "all alike", "frozen"],
)
def test_what_is_chance_or_another_symptom_is_clear(layers: list[dict[str, object]]) -> None:
    assert isinstance(init_scale(run(start=start(layers))), Clear)


def test_a_run_that_does_well_is_healthy_and_a_watched_one_is_not_blamed_without_a_trial() -> None:
    assert judge(learnt(start=start(LEANING_LAYERS))).healthy
    assert finding(init_scale(run(start=start(LEANING_LAYERS)))).severity == "info"
