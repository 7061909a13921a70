"""What no step changes, and whether it matters."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import downslope as ds
from downslope.diagnosis.measure.flow import measure

X = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
Y = X[:, :1]
HOW = ds.Recipe(optimizer="sgd", lr=0.1, steps=1)


class Net(nn.Module):
    """A body and a head; `how` says what is wrong with the body, and `spare` is never used."""

    def __init__(self, how: str = "") -> None:
        super().__init__()
        self.body, self.head, self.spare = nn.Linear(4, 8), nn.Linear(8, 1), nn.Linear(3, 3)
        self.how = how
        if how == "frozen":
            self.body.requires_grad_(requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        return self.head(torch.tanh(x.detach() if self.how == "cut" else x))


def held(how: str, recipe: ds.Recipe = HOW) -> dict[str, Any]:
    return measure(ds.Problem(model=lambda: Net(how), objective="mse", train=(X, Y)), recipe)


@pytest.mark.parametrize("how", ["frozen", "cut"])
def test_a_body_that_no_step_changes_is_named_with_why(how: str) -> None:
    found = held(how)
    (row,) = found["held"]
    assert {key: row[key] for key in ("name", "parameters", "why")} == {
        "name": "body",
        "parameters": 40,
        "why": how,
    }
    assert found["parameters"] == 40 + 9 + 12
    assert found["trained"] == 9


def test_parameters_that_the_loss_does_not_feel_are_not_missed() -> None:
    found = held("")
    assert found["held"] == []
    assert found["trained"] == 49


def test_what_the_optimizer_was_not_given_is_left_out() -> None:
    recipe = ds.Recipe(optimizer=lambda params: torch.optim.SGD(list(params)[2:], lr=0.1), steps=1)
    found = held("", recipe)
    assert [(each["name"], each["why"]) for each in found["held"]] == [("body", "left out")]
