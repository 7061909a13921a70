"""The space of the next search."""

from __future__ import annotations

import math
import random

from downslope.core.space import choice, log, one_minus, uniform, when
from downslope.tuning.confirmed import foremost
from downslope.tuning.edges import edges
from downslope.tuning.finer import finer
from downslope.tuning.importance import importances
from downslope.tuning.trial import Trial


def trials(space, value, count=80) -> list[Trial]:
    draws = random.Random(0)
    made = [{key: each.draw(draws.random()) for key, each in space.items()} for _ in range(count)]
    return [Trial(i, each, state="done", value=value(each)) for i, each in enumerate(made)]


def after(space, value):
    made = trials(space, value)
    best = foremost(made, "min", 1)[0].values
    found = importances(made, space, "min")
    return finer(made, space, "min", found, edges(made, space, "min"), best)


def test_it_is_narrower_around_what_was_good_and_without_what_did_nothing():
    space = {"lr": log(1e-5, 1e-1), "decay": log(1e-7, 1e-1)}
    ((key, found),) = after(space, lambda v: abs(math.log10(v["lr"]) + 3)).items()
    assert key == "lr"
    assert 1e-4 < found.low < 5e-4
    assert 2e-3 < found.high < 1e-2


def test_an_end_at_which_the_best_lie_is_wider_and_the_other_narrower():
    space = {"momentum": one_minus(log(1e-3, 1e-1)), "decay": log(1e-7, 1e-1)}
    found = after(space, lambda v: v["momentum"])["momentum"]
    assert found.of.high == 1.0
    assert found.of.low > 1e-2


def test_options_that_were_never_good_are_left_out():
    space = {"optimizer": choice("a", "b", "c"), "x": uniform(0, 1)}
    found = after(space, lambda v: {"a": 0.0, "b": 0.3, "c": 5.0}[v["optimizer"]] + v["x"])
    assert "c" not in found["optimizer"].options


def test_a_condition_on_what_is_fixed_is_met_or_takes_its_key_with_it():
    space = {"optimizer": choice("a", "b"), "x": when(uniform(0, 1), optimizer="a")}
    made = [Trial(i, {"optimizer": "a", "x": i / 20}, state="done", value=i / 20) for i in range(20)]
    told = importances(made, {"x": uniform(0, 1), "y": uniform(0, 1)}, "min")
    kept = finer(made, space, "min", told, (), {"optimizer": "a", "x": 0.0})
    assert set(kept) == {"x"}
    assert kept["x"] == kept["x"].inner  # no condition any more
    assert finer(made, space, "min", told, (), {"optimizer": "b"}) == {}


def test_a_key_of_which_few_trials_tell_nothing_is_searched_as_it_was():
    """Of 12 trials a rate behind half of the variance is found in one search of five."""
    space = {"lr": log(1e-5, 1e-1), "decay": log(1e-7, 1e-1)}
    for count, left in ((12, {"lr", "decay"}), (60, {"lr"})):
        made = trials(space, lambda v: abs(math.log10(v["lr"]) + 3) + math.sin(1e6 * v["lr"]), count)
        best = foremost(made, "min", 1)[0].values
        told = importances(made, space, "min")
        found = finer(made, space, "min", told, (), best)
        assert set(found) == left
        assert all(each.open for each in told if not each.mattered) is (count == 12)
        assert (found["lr"] == space["lr"]) is not next(each.mattered for each in told if each.key == "lr")
