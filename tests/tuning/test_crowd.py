"""Members that pause at rungs: each is the run that `fit` makes in one go, together or alone."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
import torch
from torch import nn

from downslope.core.errors import InputError
from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.core.run import load_run
from downslope.core.space import log
from downslope.training.fit import fit
from downslope.tuning.crowd import Crowd
from downslope.tuning.halving import Halving
from downslope.tuning.hyperband import Hyperband
from downslope.tuning.population_based import PopulationBased
from downslope.tuning.rungs import Stopped

EPOCHS = 9


def make(width: int = 5) -> nn.Module:
    return nn.Sequential(nn.Linear(4, width), nn.Tanh(), nn.Dropout(0.2), nn.Linear(width, 1)).double()


@pytest.fixture(scope="module")
def problem() -> Problem:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(48, 4, dtype=torch.float64, generator=draw)
    y = x[:, :1].sin() + 0.1 * torch.randn(48, 1, dtype=torch.float64, generator=draw)
    return Problem(model=make, objective=nn.MSELoss(), train=(x[:32], y[:32]), valid=(x[32:], y[32:]))


RECIPE = Recipe(
    optimizer="adam", lr=0.01, batch_size=8, epochs=EPOCHS, precision="float64", schedule="cosine"
)
RATES = [{"lr": 10.0**-k} for k in range(1, 7)]


def weights(run) -> torch.Tensor:
    return torch.cat([each.reshape(-1) for each in run.state("last").values()])


@pytest.mark.parametrize("way", ["together", "one by one"])
def test_a_member_that_paused_is_the_run_that_fit_makes_in_one_go(problem: Problem, way) -> None:
    crowd = Crowd(problem, RECIPE, way=way)
    members = crowd.begin(RATES)
    for units in (1, 4, EPOCHS):
        crowd.train(members, units)
    for number, values in zip(members, RATES, strict=True):
        (run,) = crowd.runs(number)
        alone = fit(problem, RECIPE.edit(**values), folder=False, progress=False, observe=0)
        assert run.choices["population"].startswith(way)
        assert run.status == alone.status == "done"
        assert run.summary["valid_loss"] == pytest.approx(alone.summary["valid_loss"], rel=1e-9)
        assert torch.allclose(weights(run), weights(alone), rtol=1e-9, atol=1e-10)
        assert crowd.loss(number) == run.summary["valid_loss"]


class Grows:
    """A squared error, and an augmentation, that grow with the calls that they count."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, *given) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        self.calls += 1
        by = 1 + 0.01 * self.calls
        if len(given) == 1:
            return given[0][0] * by, given[0][1]
        return by * (given[0] - given[1]).square().mean()


@pytest.mark.parametrize("way", ["together", "one by one"])
@pytest.mark.parametrize("part", ["objective", "augment"])
def test_members_that_take_turns_count_each_its_own_calls(problem: Problem, part, way) -> None:
    crowd = Crowd(problem.edit(**{part: Grows()}), RECIPE, way=way)
    members = crowd.begin(RATES[:3])
    for units in (1, 4, EPOCHS):
        crowd.train(members, units)
    for number, values in zip(members, RATES[:3], strict=True):
        fresh = problem.edit(**{part: Grows()})
        alone = fit(fresh, RECIPE.edit(**values), folder=False, progress=False, observe=0)
        assert torch.allclose(weights(crowd.runs(number)[0]), weights(alone), rtol=1e-9, atol=1e-10)
        assert crowd.loss(number) == pytest.approx(alone.summary["valid_loss"], rel=1e-9)


def test_who_leaves_a_crew_can_go_on_alone_as_if_it_had_not(problem: Problem) -> None:
    crowd = Crowd(problem, RECIPE, way="together")
    members = crowd.begin(RATES)
    crowd.train(members, 2)
    crowd.train(members[:2], 5)
    crowd.train(members, EPOCHS)
    for number in members:
        alone = fit(problem, RECIPE.edit(**RATES[number]), folder=False, progress=False, observe=0)
        assert torch.allclose(weights(crowd.runs(number)[0]), weights(alone), rtol=1e-9, atol=1e-10)


def test_halving_trains_only_who_goes_on_and_says_who_was_stopped(problem: Problem, tmp_path) -> None:
    crowd = Crowd(problem, RECIPE, way="together", folder=tmp_path)
    found = Halving(most=EPOCHS).run(crowd.train, lambda n: crowd.begin(RATES[:n]), 6)
    crowd.end()
    steps = [crowd.runs(number)[0].summary["steps"] for number in range(6)]
    assert sorted(steps) == [4, 4, 4, 4, 12, 36]
    assert [len(rung.members) for rung in found.rungs] == [6, 2, 1]
    best = crowd.runs(found.best)[0]
    assert best.status == "done"
    assert {crowd.runs(m)[0].status for m in range(6) if m != found.best} == {"stopped"}
    kept = load_run(best.folder)
    assert kept.summary["valid_loss"] == pytest.approx(found.reached[found.best][1], rel=1e-12)
    first = found.rungs[0]
    assert first.values == tuple(
        crowd.runs(m)[0].history.series("valid_loss").values[:2].min() for m in range(6)
    )


def test_hyperband_on_real_members_finds_what_training_all_finds(problem: Problem) -> None:
    rates = [{"lr": float(rate)} for rate in np.geomspace(1e-5, 0.3, Hyperband(most=9).members)]
    crowd = Crowd(problem, RECIPE, way="together")
    left = list(np.random.default_rng(0).permutation(len(rates)))
    order = [rates[i] for i in left]

    def ask(n: int) -> list[int]:
        return crowd.begin([order.pop(0) for _ in range(min(n, len(order)))])

    found = Hyperband(most=9).run(crowd.train, ask)
    every = Crowd(problem, RECIPE, way="together")
    losses = every.train(every.begin(rates), EPOCHS)
    reached = found.reached[found.best][1]
    assert reached <= sorted(losses)[2]
    assert found.units < 0.6 * EPOCHS * len(rates)


def test_a_member_that_diverges_has_no_loss_and_harms_nobody(problem: Problem) -> None:
    crowd = Crowd(problem, RECIPE.edit(optimizer="sgd"), way="together")
    members = crowd.begin([{"lr": 1e200}, {"lr": 0.01}])
    losses = crowd.train(members, EPOCHS)
    assert math.isnan(losses[0])
    assert math.isfinite(losses[1])
    assert crowd.runs(0)[0].status == "diverged"


def test_what_cannot_train_has_a_cause(problem: Problem) -> None:
    crowd = Crowd(problem, RECIPE)
    members = crowd.begin([{"lr": 0.1}, {"model.width": -3}])
    losses = crowd.train(members, 1)
    assert math.isfinite(losses[0])
    assert math.isnan(losses[1])
    assert set(crowd.causes) == {1}
    assert "\n" not in crowd.causes[1]


def test_shapes_that_differ_climb_the_same_rungs(problem: Problem) -> None:
    crowd = Crowd(problem, RECIPE, way="together")
    found = Halving(most=4, eta=2).run(
        crowd.train,
        lambda n: crowd.begin([{"model.width": w, "lr": r} for w in (3, 5) for r in (0.1, 0.01)]),
        4,
    )
    assert [len(rung.members) for rung in found.rungs] == [4, 2, 1]


def test_the_loss_of_several_seeds_is_their_mean(problem: Problem) -> None:
    crowd = Crowd(problem, RECIPE, seeds=(0, 1, 2), way="together")
    (loss,) = crowd.train(crowd.begin([{"lr": 0.1}]), EPOCHS)
    each = [
        fit(problem, RECIPE.edit(lr=0.1, seed=seed), folder=False, progress=False, observe=0).summary[
            "valid_loss"
        ]
        for seed in range(3)
    ]
    assert loss == pytest.approx(np.mean(each), rel=1e-9)


def test_higher_is_better_where_the_metric_says_so(problem: Problem) -> None:
    def closeness(output, target):
        return -float((output - target).abs().mean())

    own = Problem(
        model=make, objective=nn.MSELoss(), train=problem.train, valid=problem.valid, metric=closeness
    )
    crowd = Crowd(own, RECIPE)
    losses = crowd.train(crowd.begin([{"lr": 0.1}, {"lr": 1e-6}]), EPOCHS)
    assert 0 < losses[0] < losses[1]


def test_time_that_is_up_stops_between_epochs(problem: Problem) -> None:
    crowd = Crowd(problem, RECIPE, until=time.monotonic() - 1)
    members = crowd.begin(RATES[:2])
    with pytest.raises(Stopped, match="time is up"):
        crowd.train(members, EPOCHS)
    crowd.end()
    assert crowd.runs(0)[0].status == "stopped"
    assert Halving(most=EPOCHS).run(crowd.train, lambda n: members, 2).rungs == ()


# -- population-based training ------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["together", "one by one"])
def test_a_member_becomes_another_weights_optimizer_and_all(problem: Problem, way) -> None:
    """Who took over and keeps the other's settings ends where the other ends, bit for bit or nearly."""
    crowd = Crowd(problem, RECIPE, way=way)
    members = crowd.begin(RATES[:3])
    crowd.train(members, 3)
    crowd.become(2, 0, crowd.values(0))
    crowd.train(members, EPOCHS)
    one, two = (crowd.runs(number)[0] for number in (0, 2))
    assert torch.allclose(weights(one), weights(two), rtol=1e-12, atol=1e-13)
    assert one.summary["valid_loss"] == pytest.approx(two.summary["valid_loss"], rel=1e-12)
    assert two.facts["became"] == [{"step": 12, "member": 0, "lr": 0.1}]


@pytest.mark.parametrize("way", ["together", "one by one"])
def test_settings_that_change_hold_from_then_on(problem: Problem, way) -> None:
    """A rate that becomes 0 moves nothing any more."""
    recipe = RECIPE.edit(schedule=None, optimizer="sgd")
    crowd = Crowd(problem, recipe, way=way)
    members = crowd.begin([{"lr": 0.1, "momentum": 0.9}, {"lr": 0.01, "momentum": 0.5}])
    crowd.train(members, 2)
    before = [p.detach().clone() for p in crowd._members[1][0].state.model.parameters()]
    crowd.become(1, 1, {"lr": 0.0, "momentum": 0.5})
    crowd.train(members, 4)
    after = list(crowd._members[1][0].state.model.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert crowd.runs(1)[0].history.series("lr").values[-1] == 0.0


def test_who_diverged_or_reached_the_goal_goes_on_no_more(problem: Problem) -> None:
    own = Problem(model=make, objective=nn.MSELoss(), train=problem.train, valid=problem.valid, goal=0.2)
    crowd = Crowd(own, RECIPE.edit(optimizer="sgd"), way="together")
    members = crowd.begin([{"lr": 1e200}, {"lr": 0.1}, {"lr": 1e-9}])
    crowd.train(members, 3)
    assert [crowd.runs(number)[0].status for number in members] == ["diverged", "goal", "running"]
    assert [crowd.goes_on(number) for number in members] == [False, False, True]


@pytest.mark.parametrize("way", ["together", "one by one"])
def test_the_schedule_of_the_winner_gives_the_winner_again(problem: Problem, way) -> None:
    space = {"lr": log(1e-5, 1)}
    rng = np.random.default_rng(0)
    values = [{"lr": space["lr"].draw(float(rng.random()))} for _ in range(6)]

    class Bred(Crowd):
        def ask(self, n: int) -> list[int]:
            return self.begin(values[:n])

    recipe = RECIPE.edit(optimizer="momentum", schedule=None)
    crowd = Bred(problem, recipe, way=way)
    found = PopulationBased(space=space, most=EPOCHS, every=2, seed=1).run(crowd, 6)
    assert found.changes
    loss = found.schedule().replay(Bred(problem, recipe, way="one by one"))
    assert loss == pytest.approx(found.ladder.reached[found.best][1], rel=1e-9)


@pytest.mark.parametrize(
    ("values", "told"),
    [({"model.width": 7}, "'model.width' cannot change"), ({"batch_size": 4}, "'batch_size' cannot change")],
)
def test_what_cannot_change_in_training_is_refused(problem: Problem, values, told: str) -> None:
    crowd = Crowd(problem, RECIPE)
    crowd.begin([{"lr": 0.1}])
    crowd.train([0], 1)
    with pytest.raises(InputError, match=told):
        crowd.become(0, 0, {"lr": 0.1} | values)
