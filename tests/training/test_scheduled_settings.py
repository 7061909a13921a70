"""Settings on schedules in a recipe: `fit` takes the steps that a hand-written loop takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import downslope as ds
from downslope.core.errors import RecipeError, UnknownNameError

X = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
Y = X @ torch.tensor([[1.0], [-2.0], [0.5]])


def problem() -> Any:
    return ds.Problem(model=lambda: nn.Linear(3, 1), objective="squared_error", train=(X, Y))


def fitted(recipe: Any, **given: Any) -> Any:
    return ds.fit(problem(), recipe, folder=False, progress=False, **given)


def test_each_step_of_fit_takes_the_scheduled_momentum_and_decay() -> None:
    recipe = ds.Recipe(
        optimizer="sgd", lr=0.05, momentum=0.9, weight_decay=0.1, batch_size="full", steps=20, seed=0,
        precision="float32", schedules={"momentum": "cosine(final=0.5)", "weight_decay": "exponential"},
    )  # fmt: skip
    found = fitted(recipe).model()
    start = fitted(recipe.edit(lr=0.0)).model()
    optimizer = torch.optim.SGD(
        [{"params": [start.weight], "weight_decay": 0.1}, {"params": [start.bias]}], lr=0.05, momentum=0.9
    )
    momentum, decay = ds.schedules.cosine(20, final=0.5), ds.schedules.exponential(20)
    for t in range(20):
        for group, own in zip(optimizer.param_groups, (0.1, 0.0), strict=True):
            group |= {"momentum": 0.9 * momentum(t), "weight_decay": own * decay(t)}
        optimizer.zero_grad()
        (start(X) - Y).square().mean().backward()
        optimizer.step()
    for p, q in zip(found.parameters(), start.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)


def test_a_pair_takes_a_schedule_for_each_entry_and_the_file_keeps_it(tmp_path: Path) -> None:
    recipe = ds.Recipe(
        optimizer="adam", steps=10, schedules={"betas": ["constant", "cosine(final=0.9)"]}, betas=(0.8, 0.99)
    )
    again = ds.Recipe.load(recipe.save(tmp_path / "recipe.toml"))
    assert again == recipe == recipe.edit(schedules={"betas": (None, "cosine(final=0.9)")})
    run = fitted(again)
    plain = fitted(recipe.edit(schedules=None))
    first, second = (each.model().weight for each in (run, plain))
    assert not torch.equal(first, second)
    assert "schedules" in str(recipe)


def test_a_population_takes_them_as_each_alone_does() -> None:
    recipes = [
        ds.Recipe(optimizer="sgd", lr=lr, momentum=0.9, epochs=3, schedules={"momentum": "cosine"})
        for lr in (0.01, 0.02)
    ]
    together = ds.fit_population(problem(), recipes, folder=False, progress=False)
    for run, recipe in zip(together, recipes, strict=True):
        assert torch.equal(run.model().weight, fitted(recipe).model().weight)


def test_a_factory_with_schedules_of_its_own_keeps_them_alone_and_in_company() -> None:
    def factory(params: Any) -> Any:
        return ds.optim.SGD(params, lr=0.05, schedules={"lr": lambda t: 0.5**t})

    recipe = ds.Recipe(optimizer=factory, epochs=2, batch_size=8)
    alone, plain = fitted(recipe), fitted(ds.Recipe(optimizer="sgd", lr=0.05, epochs=2, batch_size=8))
    assert not torch.equal(alone.model().weight, plain.model().weight)
    [member, _] = ds.fit_population(problem(), [recipe, recipe], folder=False, progress=False)
    assert torch.equal(member.model().weight, alone.model().weight)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"optimizer": "sgd", "schedules": {"lr": "cosine"}}, "a key of its own, schedule='cosine'"),
        (
            {"optimizer": "sgd", "schedules": {"momentun": "cosine"}},
            "no number 'momentun'; did you mean 'momentum'",
        ),
        ({"optimizer": "sgd", "schedules": {"nesterov": "cosine"}}, "sgd has no number 'nesterov'"),
        ({"optimizer": "sgd", "schedules": {"momentum": "cosin"}}, "did you mean 'cosine'"),
        ({"optimizer": "adam", "schedules": {"betas": "cosine"}}, "betas has 2 entries"),
        ({"optimizer": "adam", "schedules": "cosine"}, "must be a table of schedules"),
    ],
)
def test_what_cannot_be_scheduled_is_refused_in_one_line(given: Any, words: str) -> None:
    with pytest.raises((RecipeError, UnknownNameError), match=rf"^[^\n]*{words}[^\n]*$"):
        ds.Recipe(**given)


def test_another_optimizer_drops_them_and_another_setting_leaves_them() -> None:
    recipe = ds.Recipe(optimizer="sgd", momentum=0.9, schedules={"momentum": "cosine"})
    assert recipe.edit(lr=0.5).schedules == {"momentum": "cosine"}
    assert recipe.edit(optimizer="adam").schedules is None
