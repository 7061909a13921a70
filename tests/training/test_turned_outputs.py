"""Outputs that are a turned view of others, as scores of the steps of a sequence are: (n, classes, steps)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import downslope as ds
from downslope.diagnosis.measure import objective
from downslope.training.facts import constant


class Tagger(nn.Module):
    def __init__(self, turned: bool) -> None:
        super().__init__()
        self.layer, self.turned = nn.Linear(5, 3), turned

    def forward(self, x: Tensor) -> Tensor:
        made = self.layer(x).transpose(1, 2)
        return made if self.turned else made.contiguous()


def agree(output: Tensor, target: Tensor) -> float:
    return (output.argmax(1) == target).float().mean().item()


def problem(turned: bool) -> ds.Problem:
    x = torch.randn(60, 4, 5, generator=torch.Generator().manual_seed(0))
    y = (x[..., 0] > 0.5).long() + (x[..., 0] > 1.0).long()
    return ds.Problem(
        model=lambda: Tagger(turned), objective=nn.CrossEntropyLoss(), train=(x, y), metric=agree
    )


def test_the_best_constant_of_a_turned_output_is_that_of_the_same_numbers_in_order() -> None:
    recipe = ds.Recipe(optimizer="sgd", lr=0.1, epochs=1, batch_size=20)
    turned, plain = (constant.measure(problem(each), recipe) for each in (True, False))
    assert turned is not None
    assert plain is not None
    assert turned["loss"] is not None
    assert turned["loss"] == plain["loss"]
    steps = problem(True).train_source.batch[1]
    shares = torch.stack([torch.bincount(column, minlength=3) for column in steps.T]) / len(steps)
    entropy = float(-(shares * shares.log()).sum(1).mean())
    assert abs(turned["loss"] - entropy) < 1e-4


def test_where_the_objective_leads_a_turned_output_is_known() -> None:
    recipe = ds.Recipe(optimizer="sgd", lr=0.1, epochs=1, batch_size=20)
    run = ds.fit(problem(True), recipe, progress=False, folder=False)
    found = objective.measure(run, problem(True), recipe)
    assert found is not None
    assert found["followed"] > 0.99 > found["guess"]
