"""Whether the best lie at an end of the space."""

from __future__ import annotations

import math
import random

import pytest
import torch
from torch import nn

from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.core.space import choice, integer, log, one_minus, uniform
from downslope.tuning.edges import edges, stretched, widened
from downslope.tuning.trial import Trial

PROBLEM = Problem(
    model=lambda: nn.Linear(2, 1), objective="mse", train=(torch.randn(8, 2), torch.randn(8, 1))
)


def trials(space, value, count=64, seed=0) -> list[Trial]:
    draws = random.Random(seed)
    made = [{key: each.draw(draws.random()) for key, each in space.items()} for _ in range(count)]
    return [Trial(i, each, state="done", value=value(each)) for i, each in enumerate(made)]


def test_a_slope_points_beyond_its_end_and_the_range_is_widened_there():
    space = {"lr": log(1e-5, 1e-1), "weight_decay": log(1e-7, 1e-1)}
    found = edges(trials(space, lambda v: -math.log(v["lr"])), space, "min", PROBLEM, Recipe(optimizer="sgd"))
    assert [(each.key, each.side) for each in found] == [("lr", "high")]
    assert found[0].wider == log(1e-5, 10)
    assert widened(space, found) == {"lr": log(1e-5, 10), "weight_decay": log(1e-7, 1e-1)}
    assert "widen to log:1e-05:10.0" in str(found[0])


@pytest.mark.parametrize("count", [8, 15])
def test_few_trials_show_a_slope_too_and_seldom_one_that_is_none(count: int):
    space = {"lr": log(1e-5, 1e-1)}
    seen = [edges(trials(space, lambda v: -v["lr"], count, seed), space, "min") for seed in range(60)]
    assert sum(map(bool, seen)) >= 44
    draws = random.Random(1)
    none = [edges(trials(space, lambda _: draws.random(), count, seed), space, "min") for seed in range(400)]
    assert sum(map(bool, none)) <= 20  # both ends, both rules: 2 (1/120 + 1/168) of 400 are 11


def test_beyond_what_failed_there_is_no_edge():
    space = {"lr": log(1e-5, 1e-1)}
    found = trials(space, lambda v: -v["lr"], 9)
    last = max(found, key=lambda each: each.values["lr"])
    rest = [each for each in found if each is not last]
    assert edges(found, space, "min")
    assert edges([*rest, Trial(99, {"lr": 0.099}, state="failed")], space, "min") == ()


def test_a_bowl_in_the_middle_has_no_edge():
    space = {"lr": log(1e-5, 1e-1)}
    assert edges(trials(space, lambda v: abs(math.log10(v["lr"]) + 3)), space, "min") == ()


def test_a_maximum_is_looked_for_where_the_direction_says():
    space = {"x": uniform(0, 1)}
    found = trials(space, lambda v: v["x"])
    assert edges(found, space, "max")[0].side == "high"
    assert edges(found, space, "min")[0].side == "low"


def test_a_momentum_is_at_the_end_that_its_value_is_at():
    space = {"momentum": one_minus(log(1e-3, 1e-1))}
    (found,) = edges(trials(space, lambda v: v["momentum"]), space, "min", PROBLEM, Recipe(optimizer="sgd"))
    assert found.side == "low"
    assert found.wider == one_minus(log(1e-3, 1.0))  # down to none at all, and no further


def test_what_can_go_no_further_is_said_to_be_at_its_bound():
    space = {"momentum": uniform(0.0, 0.9)}
    (found,) = edges(trials(space, lambda v: v["momentum"]), space, "min", PROBLEM, Recipe(optimizer="sgd"))
    assert found.wider is None
    assert "as far as it goes" in str(found)


def test_what_does_not_matter_is_called_an_edge_as_seldom_as_computed():
    space = {"x": uniform(0, 1), "y": uniform(0, 1)}
    alarms = sum(
        any(
            each.key == "y"
            for each in edges(trials(space, lambda v: abs(v["x"] - 0.5), seed=seed), space, "min")
        )
        for seed in range(300)
    )
    assert alarms <= 300 * 2 / 120 + 4 * math.sqrt(300 * 2 / 120)


def test_options_have_no_ends():
    space = {"optimizer": choice("sgd", "adam")}
    assert edges(trials(space, lambda v: v["optimizer"] == "sgd"), space, "max") == ()


@pytest.mark.parametrize(
    ("dimension", "low", "wider"),
    [
        (log(1e-4, 1), True, log(1e-6, 1)),
        (uniform(1, 2), False, uniform(1, 2.5)),
        (integer(16, 64), False, integer(16, 88)),
        (integer(2, 32, log=True), False, integer(2, 128, log=True)),
        (integer(2, 32, log=True), True, integer(1, 32, log=True)),
    ],
)
def test_half_of_the_range_more_in_its_own_geometry(dimension, low, wider):
    assert stretched(dimension, low) == wider
