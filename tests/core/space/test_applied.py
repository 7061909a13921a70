"""Points of a space on a problem and a recipe, and what no space may hold."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import nn

from downslope.core.errors import SpaceError
from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.core.space import (
    applied,
    choice,
    draw,
    holding,
    integer,
    log,
    one_minus,
    settled,
    uniform,
    when,
)


def _model(width: int = 4, dropout: float = 0.0) -> nn.Module:
    return nn.Sequential(nn.Linear(3, width), nn.Dropout(dropout), nn.Linear(width, 2))


PROBLEM = Problem(
    model=_model, objective="cross_entropy", train=(torch.randn(8, 3), torch.tensor([0, 1] * 4))
)
SGD = Recipe(optimizer="sgd", lr=0.1, steps=4)


def test_values_reach_recipe_model_objective_and_entries_of_a_setting():
    problem, recipe = applied(
        PROBLEM,
        Recipe(optimizer="adam", betas=(0.8, 0.99)),
        {"lr": 0.3, "betas.1": 0.95, "model.width": 7, "objective.label_smoothing": 0.1},
    )
    assert (recipe.lr, recipe.betas) == (0.3, (0.8, 0.95))
    assert problem.build()[0].out_features == 7  # pyright: ignore[reportIndexIssue]
    assert "label_smoothing=0.1" in str(problem.objective)


def test_entries_of_another_optimizers_setting_start_from_its_defaults():
    _, recipe = applied(PROBLEM, SGD, {"optimizer": "adam", "betas.0": 0.5})
    assert recipe.betas == (0.5, 0.999)


def test_a_batch_size_without_a_rate_rescales_it_in_silence(caplog):
    with caplog.at_level(logging.WARNING, "downslope"):
        _, recipe = applied(PROBLEM, SGD, {"batch_size": 128})
    assert recipe.lr == pytest.approx(0.2)
    assert not caplog.records


def test_settings_of_one_optimizer_are_searched_with_it_alone():
    space = settled(
        PROBLEM,
        Recipe(),
        {"optimizer": choice("sgd", "adam"), "momentum": uniform(0.5, 0.9), "betas.0": uniform(0.8, 0.9)},
    )
    assert draw(space, [0.0, 0.0, 0.0]) == {"optimizer": "sgd", "momentum": 0.5}
    assert draw(space, [0.9, 0.0, 0.0]) == {"optimizer": "adam", "betas.0": 0.8}


def test_a_condition_on_what_does_not_hold_does_not_hold():
    space = {
        "a": choice(1, 2),
        "b": when(choice(1, 2), a=1),
        "c": when(choice(1, 2), b=1),
    }
    assert holding(space, {"a": 2, "b": 1, "c": 1}) == {"a": 2}
    assert holding(space, {"a": 1, "b": 2, "c": 1}) == {"a": 1, "b": 2}


def test_texts_and_lists_are_read():
    space = settled(PROBLEM, SGD, {"lr": "log:1e-4:1", "batch_size": [4, 8]})
    assert space == {"lr": log(1e-4, 1), "batch_size": choice(4, 8)}
    assert settled(PROBLEM, SGD, {"lr": (0.1, 0.2, 0.3)}) == {"lr": choice(0.1, 0.2, 0.3)}


@pytest.mark.parametrize(
    ("space", "told"),
    [
        ({"lrr": log(1e-4, 1)}, "did you mean 'lr'?"),
        ({"learning_rate": log(1e-4, 1)}, "did you mean 'lr'?"),
        ({"momentun": uniform(0, 0.9)}, "did you mean 'momentum'?"),
        ({"betas.0": uniform(0, 0.9)}, "'betas.0' is no key"),
        ({"modle.width": integer(1, 4)}, "did you mean 'model.width'?"),
        ({"model.widht": integer(1, 4)}, "did you mean 'width'?"),
        ({"lr": log(1e-4, 1), "momentum": uniform(0.5, 1.5)}, "space['momentum']"),
        ({"lr": uniform(-1, 1)}, "space['lr'] = uniform:-1.0:1.0: lr=-1.0"),
        ({"optimizer": choice("sgd", "adamm")}, "did you mean 'adam'?"),
        ({"lr": 0.1}, "must be a dimension"),
        ({"lr": when(log(1e-4, 1), optimzer="sgd")}, "'optimzer', which is not searched"),
        ({"optimizer": choice("sgd", "adam"), "lr": when(log(1e-4, 1), optimizer="muon")}, "never is"),
        ({"lr": when(log(1e-4, 1), batch_size=4), "batch_size": when(choice(4, 8), lr=0.1)}, "in a circle"),
        ({"seed": integer(0, 9)}, "no hyper-parameter"),
        ({"objective.label_smothing": uniform(0, 0.2)}, "label_smoothing"),
        ([("lr", 1)], "must be a dict"),
        ({"lr": (1e-4, 1)}, "a range is ds.log(0.0001, 1), two options are ds.choice(0.0001, 1)"),
        ({"batch_size": (4, 8)}, "a range is ds.integer(4, 8), two options are ds.choice(4, 8)"),
        ({"momentum": (0, 0.9)}, "a range is ds.uniform(0, 0.9), two options are ds.choice(0, 0.9)"),
    ],
)
def test_what_cannot_be_searched_is_refused_in_one_line(space, told):
    with pytest.raises(ValueError, match=r"^[^\n]*$") as caught:
        settled(PROBLEM, SGD, space)
    assert isinstance(caught.value, SpaceError) or "model" in str(caught.value)
    assert told in str(caught.value)


def test_a_range_near_one_is_held_against_the_recipe():
    settled(PROBLEM, SGD, {"momentum": one_minus(log(1e-3, 1e-1))})
    with pytest.raises(SpaceError, match="momentum"):
        settled(PROBLEM, SGD, {"momentum": one_minus(uniform(-0.5, 0.5))})


def test_a_setting_that_every_searched_optimizer_has_and_the_recipe_has_not_is_searched():
    space = settled(PROBLEM, SGD, {"optimizer": choice("adam", "adamw"), "betas.0": uniform(0, 0.9)})
    assert space["betas.0"] == uniform(0, 0.9)
    _, recipe = applied(PROBLEM, SGD, {"optimizer": "adamw", "betas.0": 0.5})
    assert recipe.settings["betas"] == (0.5, 0.999)


def test_a_range_of_fractions_for_what_is_whole_is_refused_although_its_ends_are_whole():
    with pytest.raises(SpaceError, match="must be an integer"):
        settled(PROBLEM, SGD, {"batch_size": uniform(1, 8)})
