from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import downslope as ds
from downslope.core.run import Run
from downslope.diagnosis.judge import judge
from downslope.models.activated import ActivatedConv2d, ActivatedLinear
from tests.diagnosis.symptoms.problems import (
    Functional,
    classes,
    diagnosed,
    net,
    numbers,
    problem,
    recipe,
)


class Straight(nn.Module):
    """A custom forward that forgot its activations."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first, self.second, self.head = (
            nn.Linear(inputs, 32), nn.Linear(32, 32), nn.Linear(32, outputs),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.second(self.first(x)))


def stack(*end: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(6, 32), nn.Linear(32, 1), *end)


@pytest.mark.parametrize("make", [lambda: Straight(6, 1), stack], ids=["custom forward", "modules"])
def test_layers_without_an_activation_between_them_are_the_root(make: Any) -> None:
    sick = problem(numbers(), make, "mse", "r2")
    result = diagnosed(sick, recipe(epochs=60))
    assert result.root is not None
    assert result.root.symptom == "missing-nonlinearity"
    cured, how = result.root.remedies[0].apply(sick, recipe(epochs=60))
    assert diagnosed(cured, how).healthy


def test_the_bend_of_a_stack_of_matrices_is_rounding_and_that_of_a_relu_is_not() -> None:
    flat = diagnosed(problem(numbers(), stack, "mse", "r2"), recipe(steps=4)).run.facts["affine"]
    bent = diagnosed(problem(numbers(), lambda: net(6, 1), "mse", "r2"), recipe(steps=4)).run.facts["affine"]
    assert flat["bend"] < 1e-12
    assert bent["bend"] > 1e-2
    assert flat["layers"] == ["0", "1"]


@pytest.mark.parametrize("start", [0.1, 0.0, -20.0], ids=["all alike", "all zero", "all dead"])
def test_units_that_bend_nothing_at_the_start_are_not_taken_for_missing(start: float) -> None:
    def make() -> nn.Module:
        model = Functional(6, 1)
        for p in model.parameters():
            nn.init.constant_(p, start)
        return model

    result = diagnosed(problem(numbers(), make, "mse", "r2"), recipe(steps=4))
    assert "missing-nonlinearity" in dict(result.cleared)


def test_a_softmax_at_the_end_is_no_activation_between_layers() -> None:
    model = nn.Sequential(nn.Linear(12, 16), nn.Linear(16, 4), nn.LogSoftmax(1))
    task = problem(classes(), model, nn.NLLLoss(), "accuracy")
    assert diagnosed(task, recipe(steps=4)).run.facts["affine"]["bend"] < 1e-9


def test_a_deep_linear_model_of_linear_data_is_healthy() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(400, 6, generator=generator)
    y = x @ torch.randn(6, 1, generator=generator) + 0.1 * torch.randn(400, 1, generator=generator)
    result = diagnosed(problem(((x, y), (x, y)), stack, "mse", "r2"), recipe(epochs=60))
    assert result.healthy


def test_one_layer_has_nothing_between() -> None:
    result = diagnosed(problem(numbers(), lambda: nn.Linear(6, 1), "mse", "r2"), recipe(steps=10))
    assert dict(result.cleared)["missing-nonlinearity"].startswith("fewer than two layers")


def test_the_replacing_layers_are_the_plain_ones_behind_a_relu() -> None:
    plain, own = nn.Linear(3, 5), ActivatedLinear(3, 5)
    own.load_state_dict(plain.state_dict())
    x = torch.randn(7, 3)
    assert torch.equal(own(x), plain(x).relu())
    conv, ours = nn.Conv2d(2, 4, 3, padding=1), ActivatedConv2d(2, 4, 3, padding=1)
    ours.load_state_dict(conv.state_dict())
    image = torch.randn(2, 2, 6, 6)
    assert torch.equal(ours(image), conv(image).relu())


def test_a_run_of_which_nothing_is_known_raises_nothing() -> None:
    assert not judge(Run()).findings


class TwoLinear(nn.Module):
    """A linear function in two layers, which stands on a saddle where both are zero."""

    def __init__(self, zero: bool = True) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(10, 1, bias=False), nn.Linear(1, 1, bias=False)
        if zero:
            nn.init.zeros_(self.a.weight)
            nn.init.zeros_(self.b.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(self.a(x))


def test_of_a_linear_model_that_never_moved_the_start_is_blamed() -> None:
    draw = torch.Generator().manual_seed(0)
    x, w = torch.randn(400, 10, generator=draw), torch.randn(10, 1, generator=draw)
    y = x @ w + 0.1 * torch.randn(400, 1, generator=draw)
    task = ds.Problem(
        model=TwoLinear, objective="squared_error", train=(x[:300], y[:300]), valid=(x[300:], y[300:])
    )
    how = ds.Recipe(optimizer="gd", lr=0.05, steps=150)
    told = ds.diagnose(task, how, progress=False, budget="1500 steps")
    assert told.findings[0].symptom == "saddle-point"
    mended = told.findings[0].remedies[0].apply(task, how)
    assert ds.fit(*mended, folder=False, progress=False).summary["valid_loss"] < 0.02
