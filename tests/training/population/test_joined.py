"""Objectives of all members at once are what each gives alone; others are left alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import downslope as ds
from downslope.training.population.joined import JoinedMeans

M, B = 3, 7


@pytest.mark.parametrize(
    "objective",
    [
        "squared_error", "absolute_error", "huber", "logistic", nn.MSELoss(), nn.SmoothL1Loss(beta=0.3),
        nn.BCEWithLogitsLoss(pos_weight=torch.tensor([2.0, 0.5])), nn.functional.mse_loss,
    ],
    ids=lambda each: getattr(each, "__name__", str(each)),
)  # fmt: skip
@pytest.mark.parametrize("shared", [True, False])
def test_means_are_those_of_each_member(objective: Any, shared: bool) -> None:
    draw = torch.Generator().manual_seed(0)
    output = torch.randn(M, B, 2, generator=draw, dtype=torch.float64)
    target = torch.rand(B, 2, generator=draw, dtype=torch.float64)
    target = target if shared else torch.stack([target * k for k in (1.0, 0.5, 0.1)])
    given = ds.Problem(model=nn.Linear(2, 2), objective=objective, train=(output[0], output[0])).objective
    assert JoinedMeans.runs(given)
    found = JoinedMeans(given)(output, target, shared=shared)
    alone = torch.stack([given(output[i], target if shared else target[i]) for i in range(M)])
    torch.testing.assert_close(found, alone, rtol=1e-13, atol=1e-14)


def own(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return (output - target).square().mean()


@pytest.mark.parametrize(
    "objective",
    [
        own, nn.MSELoss(reduction="sum"), nn.BCEWithLogitsLoss(weight=torch.ones(2)), nn.CrossEntropyLoss(),
        ds.objectives.cross_entropy if hasattr(ds, "objectives") else nn.NLLLoss(),
    ],
)  # fmt: skip
def test_what_weighs_an_entry_by_others_is_left_alone(objective: Any) -> None:
    assert not JoinedMeans.runs(objective)
