"""Every sampler: inside its space, conditions kept, distinct, and told what it asked for."""

from __future__ import annotations

import importlib.util
import math
from dataclasses import dataclass

import pytest

from downslope.core.errors import InputError, UnknownNameError
from downslope.core.space import choice, draw, integer, log, one_minus, uniform, when
from downslope.tuning.samplers import SAMPLERS, sampler_of
from downslope.tuning.samplers.grid import Grid

SPACE = {
    "lr": log(1e-5, 0.1),
    "momentum": when(one_minus(log(1e-3, 1e-1)), optimizer="sgd"),
    "optimizer": choice("sgd", "adam"),
    "model.width": integer(4, 64, log=True),
}
PLAIN = {"x": uniform(0, 1), "y": uniform(0, 1)}
NO_CMA = importlib.util.find_spec("cmaes") is None


@dataclass
class Seen:
    number: int
    values: dict
    state: str = "running"
    value: float | None = None
    retry_of: int | None = None


def run(sampler, batches: int, size: int, objective) -> list[Seen]:
    """Asked and told in batches, as a search does."""
    trials: list[Seen] = []
    for _ in range(batches):
        new = [Seen(len(trials) + i, values) for i, values in enumerate(sampler.ask(trials, size))]
        trials += new
        for each in new:
            each.value, each.state = objective(each.values), "done"
    return trials


def bowl(values: dict) -> float:
    return (values["x"] - 0.7) ** 2 + (values["y"] - 0.2) ** 2


@pytest.mark.parametrize("name", [name for name in SAMPLERS if not (NO_CMA and name == "cma")])
def test_values_are_inside_and_conditions_hold(name):
    count = 12 if name in ("gp", "grid") else 24
    trials = run(
        sampler_of(name)(SPACE, seed=1, trials=24), 4, count // 4, lambda v: abs(math.log(v["lr"]) + 5)
    )
    assert len(trials) == count
    for each in trials:
        assert ("momentum" in each.values) == (each.values["optimizer"] == "sgd")
        for key, value in each.values.items():
            assert 0 <= SPACE[key].place(value) <= 1
    different = {tuple(sorted(each.values.items())) for each in trials}
    assert len(different) == count


@pytest.mark.parametrize(
    "name", ["tpe", "gp", pytest.param("cma", marks=pytest.mark.skipif(NO_CMA, reason="no cmaes"))]
)
def test_those_that_learn_get_nearer_than_their_first_draws(name):
    trials = (
        run(sampler_of(name)(PLAIN, seed=0), 4, 5, bowl)
        if name == "gp"
        else run(sampler_of(name)(PLAIN), 6, 6, bowl)
    )
    first, last = (sorted(each.value for each in part)[2] for part in (trials[:10], trials[-10:]))
    assert last < first


def test_a_model_goes_on_from_trials_that_others_made():
    trials = [Seen(i, draw(PLAIN, [i / 30, (i * 7 % 30) / 30]), "done") for i in range(30)]
    for each in trials:
        each.value = bowl(each.values)
    trials[3].state, trials[3].value = "failed", None
    trials[4].state, trials[4].value = "pruned", None  # it diverged
    trials[5].state = "pruned"
    asked = sampler_of("tpe")(PLAIN, seed=5).ask(trials, 20)
    assert sum(bowl(each) < 0.1 for each in asked) > 8  # of uniform draws every fourth


def test_where_training_diverged_a_model_does_not_ask_again():
    trials = [Seen(i, draw(PLAIN, [i / 40, (i * 7 % 40) / 40]), "done", 1.0 + i % 3) for i in range(40)]
    for each in trials:
        if each.values["x"] > 0.5:
            each.state, each.value = "pruned", None
    asked = sampler_of("tpe")(PLAIN, seed=5).ask(trials, 30)
    assert sum(each["x"] > 0.5 for each in asked) < 8


def test_worse_is_larger_or_smaller_as_the_direction_says():
    for direction, sign in (("min", 1), ("max", -1)):
        trials = run(
            sampler_of("tpe")(PLAIN, seed=0, direction=direction), 6, 6, lambda v, s=sign: s * bowl(v)
        )
        assert sum(bowl(each.values) < 0.1 for each in trials[-12:]) > 5


def test_a_sobol_sequence_goes_on_where_it_was():
    whole = sampler_of("sobol")(PLAIN, seed=3).ask([], 12)
    part = sampler_of("sobol")(PLAIN, seed=3)
    assert part.ask([], 5) + part.ask([Seen(i, {}) for i in range(5)], 7) == whole
    sixteen = sampler_of("sobol")(PLAIN, seed=3).ask([], 16)
    assert sorted(int(each["x"] * 16) for each in sixteen) == list(range(16))  # one in each sixteenth


def test_a_grid_has_every_combination_once_in_an_order_of_its_seed():
    space = {"lr": log(1e-3, 1e-1), "optimizer": choice("sgd", "adam")}
    grid = Grid(space, seed=1, trials=7)
    points = grid.ask([], 100)
    assert sorted((each["optimizer"], round(each["lr"], 9)) for each in points) == [
        (name, lr) for name in ("adam", "sgd") for lr in (0.001, 0.01, 0.1)
    ]
    assert grid.ask([Seen(i, {}) for i in range(6)], 3) == []
    assert grid.ask([Seen(i, {}) for i in range(4)], 3) == points[4:]
    assert Grid(space, seed=2, trials=7).ask([], 100) != points


def test_a_grid_of_conditional_keys_has_no_point_twice():
    space = {"optimizer": choice("sgd", "adam"), "momentum": when(uniform(0, 0.9), optimizer="sgd")}
    assert len(Grid(space, trials=10).points) == 5 + 1


FINITE = {"n": integer(1, 3), "c": choice("a", 1, True), "d": when(choice(8, 9), c="a")}
"""Three times three points and, where c is "a", three more."""


@pytest.mark.parametrize("name", [name for name in SAMPLERS if not (NO_CMA and name == "cma")])
@pytest.mark.parametrize("state", ["done", "failed", "pruned", "running"])
def test_of_finitely_many_points_each_is_tried_once_and_then_it_ends(name, state):
    sampler = sampler_of(name)(FINITE, seed=2, trials=40)
    trials: list[Seen] = []
    for _ in range(6):
        new = sampler.ask(trials, 5)
        trials += [
            Seen(len(trials) + i, each, state, float(each["n"]) if state == "done" else None)
            for i, each in enumerate(new)
        ]
    assert len(trials) == 12
    assert len({repr(sorted(each.values.items())) for each in trials}) == 12


@pytest.mark.parametrize("name", ["random", "sobol"])
def test_of_finitely_many_points_a_search_in_parts_tries_what_the_whole_one_does(name):
    whole = sampler_of(name)(FINITE, seed=4).ask([], 12)
    part = sampler_of(name)(FINITE, seed=4)
    first = part.ask([], 5)
    seen = [Seen(i, each, "lost") for i, each in enumerate(first)]
    again = [Seen(5 + i, each, "done", 1.0, retry_of=i) for i, each in enumerate(first)]
    assert first + sampler_of(name)(FINITE, seed=4).ask(seen + again, 7) == whole


def test_members_of_a_population_may_begin_alike():
    sampler = sampler_of("random")({"c": choice(1, 2)}, seed=0)
    sampler.repeats = True
    assert len(sampler.ask([], 9)) == 9


@pytest.mark.parametrize("name", [name for name in SAMPLERS if not (NO_CMA and name == "cma")])
@pytest.mark.parametrize("kind", ["all diverge", "all fail", "huge", "one value"])
def test_no_outcome_stops_a_sampler(name, kind):
    space = {"x": log(1e-5, 1), "n": integer(1, 4), "c": choice(None, "a", 2.5)}
    value = {"huge": 1e308, "one value": 1.0}.get(kind)
    state = {"all diverge": "pruned", "all fail": "failed"}.get(kind, "done")
    sampler, trials = sampler_of(name)(space, seed=1, trials=16), list[Seen]()
    for _ in range(2 if name == "gp" else 4):
        trials += [Seen(len(trials) + i, each, state, value) for i, each in enumerate(sampler.ask(trials, 6))]
    assert len({repr(sorted(each.values.items())) for each in trials}) == len(trials)
    assert all(0 <= space[key].place(value) <= 1 for each in trials for key, value in each.values.items())


@pytest.mark.parametrize("name", ["tpe", "gp"])
def test_a_batch_is_spread_although_none_of_it_has_ended(name):
    """Each of it counts as bad until it ends: without that, all crowd where the model expects the best."""
    trials = [Seen(i, draw(PLAIN, [i / 20, (i * 7 % 20) / 20]), "done") for i in range(20)]
    for each in trials:
        each.value = bowl(each.values)
    batch = sampler_of(name)(PLAIN, seed=5).ask(trials, 4 if name == "gp" else 12)
    apart = [math.dist(a.values(), b.values()) for i, a in enumerate(batch) for b in batch[:i]]
    assert min(apart) > 1e-3


def test_names_are_looked_up_and_the_nearest_is_told():
    assert sampler_of("CMA-ES").name == "cma"
    with pytest.raises(UnknownNameError, match="did you mean 'random'"):
        sampler_of("randon")


@pytest.mark.skipif(not NO_CMA, reason="cmaes is installed")
def test_cma_without_its_package_says_so_in_one_line():
    with pytest.raises(InputError, match=r"pip install 'downslope\[cma\]'"):
        sampler_of("cma")(PLAIN).ask([], 1)
