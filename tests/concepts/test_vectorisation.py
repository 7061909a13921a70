"""The same gradient in every way, in float64; and the same training, batched or example by example."""

from __future__ import annotations

import pytest
import torch

import downslope as ds
from bench.vectorisation import WAYS, digits
from downslope.core.loss import Objective


@pytest.mark.parametrize("name", [name for name in WAYS if name != "loop over numbers"])
def test_every_way_gives_the_gradient_of_the_loop_over_numbers(name: str) -> None:
    x, y, w = digits(torch.float64)
    x, y = x[:40], y[:40]
    truth = WAYS["loop over numbers"](x, y, w)
    torch.testing.assert_close(WAYS[name](x, y, w), truth, rtol=1e-12, atol=1e-14)


def test_the_gradient_that_training_takes_is_that_of_the_loop() -> None:
    x, y, w = digits(torch.float64)
    x, y = x[:40], y[:40]
    problem = ds.Problem(model=lambda: _linear(w), objective="cross_entropy", train=(x, y))
    model = problem.build()
    Objective(problem)(model, (x, y)).value.backward()
    torch.testing.assert_close(model.weight.grad, WAYS["loop over numbers"](x, y, w), rtol=1e-12, atol=1e-14)


def test_a_step_on_the_batch_is_a_step_on_its_examples_one_by_one() -> None:
    x, y, w = digits(torch.float64)
    problem = ds.Problem(model=lambda: _linear(w), objective="cross_entropy", train=(x[:40], y[:40]))
    recipe = ds.Recipe(optimizer="gd", lr=0.5, steps=3)
    batched, one_by_one = (
        ds.fit(problem, each, folder=False, progress=False).state("last")["weight"]
        for each in (recipe, recipe.edit(accumulate=40))
    )
    torch.testing.assert_close(batched, one_by_one, rtol=1e-12, atol=1e-14)


def test_a_step_of_many_models_at_once_is_a_step_of_each_by_hand() -> None:
    x, y, w = digits(torch.float64)
    x, y, rates = x[:40], y[:40], (0.1, 0.3, 1.0)
    problem = ds.Problem(model=lambda: _linear(w), objective="cross_entropy", train=(x, y))
    recipes = [ds.Recipe(optimizer="gd", lr=lr, steps=3) for lr in rates]
    runs = ds.fit_population(problem, recipes, progress=False, way="together")
    assert runs[0].choices["population"] == "together with 2 others"
    for run, lr in zip(runs, rates, strict=True):
        own = w.clone()
        for _ in range(3):
            own -= lr * WAYS["batched, by the formula"](x, y, own)
        torch.testing.assert_close(run.state("last")["weight"], own, rtol=1e-12, atol=1e-14)


def _linear(w: torch.Tensor) -> torch.nn.Module:
    model = torch.nn.Linear(64, 10, bias=False, dtype=torch.float64)
    with torch.no_grad():
        model.weight.copy_(w)
    return model
