"""What an objective may ask for beside output and target."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import downslope as ds
from downslope.core.loss import Objective

X, Y = torch.tensor([[1.0], [2.0]]), torch.tensor([[1.0], [3.0]])


def line() -> nn.Module:
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 2.0)
    return model


def penalised(output: Tensor, target: Tensor, *, model: nn.Module | None) -> dict[str, Tensor]:
    error = (output - target).square().mean()
    if model is None:
        return {"error": error}
    return {"error": error, "penalty": 0.5 * sum(p.square().sum() for p in model.parameters())}


def test_an_objective_that_asks_for_the_model_is_handed_the_one_of_the_problem() -> None:
    problem = ds.Problem(model=line, objective=penalised, train=(X, Y))
    model = problem.build()
    loss = Objective(problem)(model, (X, Y))
    assert loss.terms["error"].item() == 1.0  # (2 - 1)^2 and (4 - 3)^2
    assert loss.terms["penalty"].item() == 2.0  # 2^2 / 2
    assert loss.value.item() == 3.0


def test_it_is_handed_the_model_without_what_adapts_it() -> None:
    seen: list[nn.Module] = []

    def watching(output: Tensor, target: Tensor, *, model: nn.Module) -> Tensor:
        seen.append(model)
        return (output - target).square().mean()

    problem = ds.Problem(model=line, objective=watching, train=(X, Y)).edit(
        ds.edits.StandardiseInputs(), ds.edits.StandardiseTargets()
    )
    model = problem.build()
    Objective(problem)(model, (X, Y))
    Objective(problem).raw(model, (X, Y))
    assert len(seen) == 2
    assert all(type(each) is nn.Linear for each in seen)


def test_without_a_model_to_speak_of_it_is_handed_none() -> None:
    problem = ds.Problem(model=line, objective=penalised, train=(X, Y))
    assert set(Objective(problem).of(X, Y).terms) == {"error"}


def test_the_penalty_pulls_the_weight_to_where_theory_has_it() -> None:
    problem = ds.Problem(model=line, objective=penalised, train=(X, Y))
    recipe = ds.Recipe(optimizer="gd", lr=0.1, steps=200)
    run = ds.fit(problem, recipe, folder=False, progress=False)
    # J = mean (w x - y)^2 + w^2 / 2: w = 2 mean(x y) / (2 mean(x^2) + 1) = 7 / 6
    assert abs(float(run.model().weight.detach()) - 7 / 6) < 1e-6
