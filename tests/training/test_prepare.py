"""The light road: further members of a prepared group are what `prepare` would have made of them."""

from __future__ import annotations

import torch
from torch import nn

import downslope as ds
from downslope.core.run import Run
from downslope.training.prepare import built, further, prepare
from downslope.training.state import StepState
from tests.training.problems import classification, regression

HOW = ds.Recipe(optimizer="adamw", lr=0.01, weight_decay=0.1, batch_size=16, epochs=2)


def made(problem: ds.Problem, recipe: ds.Recipe) -> StepState:
    run = Run(problem=problem, recipe=recipe)
    return prepare(run, problem, recipe)[0]


def joined(problem: ds.Problem, recipe: ds.Recipe, like: StepState) -> StepState | None:
    run = Run(problem=problem, recipe=recipe)
    return further(run, problem, like, built(run, problem, recipe))


def test_a_further_member_has_the_weights_groups_and_choices_that_it_has_alone() -> None:
    problem = regression(augment=ds.augment.Noise(0.1))
    other = HOW.edit(lr=0.3, weight_decay=0.2, seed=7)
    member, alone = joined(problem, other, made(problem, HOW)), made(problem, other)
    assert member is not None
    for name, value in alone.model.state_dict().items():
        assert torch.equal(member.model.state_dict()[name], value)
    assert member.run.choices == alone.run.choices
    assert member.optimizer.state_dict() == alone.optimizer.state_dict()
    assert member.recipe == alone.recipe == other
    assert torch.equal(member.augment(alone.batch, 1, 2)[0], alone.augment(alone.batch, 1, 2)[0])


def test_rates_by_depth_are_of_one_model_and_stand_alone() -> None:
    deep = HOW.edit(layer_decay=0.5)
    assert joined(regression(), deep, made(regression(), deep)) is None


def test_an_objective_with_parameters_is_every_members_own() -> None:
    class Learnt(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            return nn.functional.cross_entropy(output * self.scale, target)

    problem = classification(objective=Learnt())
    like = made(problem, HOW)
    member = joined(problem, HOW, like)
    assert member is not None
    assert member.objective.function is not like.objective.function
