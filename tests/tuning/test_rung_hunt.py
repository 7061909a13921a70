"""Searches by halving, Hyperband and population-based training, through the verb."""

from __future__ import annotations

import math
import signal

import pytest

from downslope.core.errors import InputError
from downslope.core.recipe import Recipe
from downslope.core.space import integer, log, one_minus
from downslope.training.fit import fit
from downslope.training.population import company
from downslope.tuning import crowd
from downslope.tuning.hyperband import Hyperband
from downslope.tuning.replay import replay
from downslope.tuning.tune import resume, tune
from tests.tuning.searches import LR, problem, sgd

SGD = sgd(epochs=9)


def search(*args, **how):
    how = {"progress": False, "folder": False, "trials": 9, "confirm": 0, "pruner": "halving"} | how
    return tune(*(args or (problem(), SGD, LR)), **how)


def test_halving_ends_two_thirds_at_each_rung_and_keeps_what_they_had():
    found = search()
    states = [each.state for each in found.trials]
    assert (states.count("done"), states.count("pruned")) == (1, 8)
    assert sorted(each.attrs["steps"] for each in found.trials) == [2] * 6 + [6] * 2 + [18]
    best = next(each for each in found.trials if each.state == "done")
    assert found.best.number == best.number
    assert list(best.rungs) == [2, 6, 18]
    assert best.rungs[18] == pytest.approx(best.value, rel=1e-6)
    for each in found.trials:
        if each.state == "pruned":
            assert list(each.rungs)[-1] == each.attrs["steps"]
            assert each.value == pytest.approx(each.rungs[each.attrs["steps"]], rel=1e-6)
            assert f"of {SGD.epochs} epochs" in each.cause


def test_what_halving_keeps_is_what_training_all_finds():
    every, halved = search(pruner=None), search()
    assert [each.values for each in every.trials] == [each.values for each in halved.trials]
    assert halved.best.values == every.best.values
    assert halved.best.value == pytest.approx(every.best.value, rel=1e-5)
    assert halved.steps < every.steps / 2
    alone = fit(*halved.best, folder=False, progress=False)
    assert halved.best.value == pytest.approx(alone.summary["valid_loss"], rel=1e-5)


def test_a_metric_that_is_better_when_higher_is_maximised():
    every, halved = search(problem(metric="r2"), SGD, LR, pruner=None), search(problem(metric="r2"), SGD, LR)
    assert halved.best.values == every.best.values


def test_hyperband_fills_its_brackets_with_the_trials():
    found = search(pruner="hyperband", trials=Hyperband(most=9).members)
    steps = sorted(each.attrs["steps"] for each in found.trials)
    assert steps == sorted([2] * 6 + [6] * 2 + [18] + [6] * 4 + [18] + [18] * 3)
    assert sum(each.state == "done" for each in found.trials) == 5


def test_asynchronous_promotes_without_a_barrier():
    found = search(pruner="asynchronous")
    assert found.trials[0].attrs["steps"] >= 2
    assert sum(each.state == "done" for each in found.trials) >= 1
    assert found.steps < 9 * 18


@pytest.mark.parametrize("pruner", ["halving", "hyperband", "asynchronous", "pbt"])
def test_a_budget_of_steps_is_kept_but_for_who_is_under_way(pruner):
    found = search(trials=None, steps=200, pruner=pruner)
    assert 100 <= found.steps <= 250
    assert any(each.state == "done" for each in found.trials)


def test_trials_that_diverge_or_fail_leave_their_cause_and_the_rest_goes_on():
    found = search(problem(), SGD, {"lr": log(1e-3, 1e30), "model.width": integer(-3, 3)}, trials=27, seed=1)
    causes = " ".join(each.cause or "" for each in found.trials)
    assert "training diverged at step" in causes
    assert any(each.state == "failed" for each in found.trials)
    assert math.isfinite(found.best.value)


def test_all_failing_ends_it_early():
    found = search(problem(), SGD, {"model.width": integer(-30, -3)}, trials=30)
    assert not found.found
    assert found.failures


@pytest.mark.parametrize(
    ("of", "pruned"), [(crowd.Crowd, 8), (crowd._Party, 6)], ids=["between rungs", "in training"]
)
def test_a_search_that_was_interrupted_goes_on_without_being_told(tmp_path, monkeypatch, of, pruned):
    monkeypatch.setattr(company, "pays", lambda *given: True)  # all nine in one crew, whatever it takes
    train, calls = of.train, []

    def interrupting(self, *given):
        calls.append(given)
        if len(calls) == 2:
            signal.raise_signal(signal.SIGINT)
        return train(self, *given)

    monkeypatch.setattr(of, "train", interrupting)
    first = search(folder=tmp_path / "s")
    assert first.interrupted
    states = [each.state for each in first.trials]
    assert states.count("pruned") == pruned
    assert states.count("given back") == states.count("waiting") == 9 - pruned
    monkeypatch.undo()
    whole = resume(tmp_path / "s", problem(), progress=False)
    assert not whole.interrupted
    assert sum(each.state == "done" for each in whole.trials) == 1
    assert not [each for each in whole.trials if each.state in ("running", "waiting")]


def test_time_that_is_up_leaves_nobody_running():
    found = search(trials=None, seconds=0.5)
    assert not [each for each in found.trials if each.state == "running"]
    assert found.trials


def test_population_based_training_finds_a_schedule_that_gives_the_winner_again():
    found = search(pruner="pbt", trials=10)
    assert {each.state for each in found.trials} == {"done"}
    schedule = found.schedule
    assert schedule is not None
    assert schedule.at(0) == {"lr": pytest.approx(schedule.pieces[0][1]["lr"])}
    assert any(len(each.attrs["schedule"]) > 1 for each in found.trials)
    (run,) = replay(found.problem, SGD, schedule, seeds=(SGD.seed,))
    assert run.summary["valid_loss"] == pytest.approx(found.best.value, rel=1e-4)
    assert dict(found.told())["schedule"].startswith("lr ")


def test_the_best_recipe_trains_along_a_schedule_of_the_rate():
    found = search(pruner="pbt", trials=10)
    assert found.recipe.lr == found.best.values["lr"] == found.schedule.at(0)["lr"]
    again = fit(*found.best, folder=False, progress=False)
    assert again.summary["valid_loss"] == pytest.approx(found.best.value, rel=1e-4)
    assert len(again.history.series("lr").values) == 18
    assert len(set(again.history.series("lr").values.round(9))) == len(found.schedule.series("lr"))
    assert Recipe.from_toml(found.recipe.to_toml()) == found.recipe


def test_a_schedule_of_more_than_the_rate_is_told_to_be_replayed():
    space = {"lr": log(1e-3, 0.3), "weight_decay": log(1e-6, 1e-2)}
    found = search(problem(), SGD, space, pruner="pbt", trials=10)
    assert len(found.schedule.series("weight_decay")) > 1
    assert found.recipe.schedule is None
    assert "replay trains along it" in dict(found.told())["schedule"]


def test_entries_of_a_setting_change_on_the_way_too():
    adam = Recipe(optimizer="adam", lr=0.01, batch_size=12, epochs=6, seed=4)
    space = {"lr": log(1e-3, 0.3), "betas.0": one_minus(log(1e-2, 0.5))}
    found = search(problem(), adam, space, pruner="pbt", trials=10, confirm=1, fresh=2)
    assert found.recipe.lr == found.schedule.at(0)["lr"]
    assert found.recipe.settings["betas"][0] == found.schedule.at(0)["betas.0"]
    (run,) = replay(found.problem, adam, found.schedule, seeds=(adam.seed,))
    assert run.summary["valid_loss"] == pytest.approx(found.best.value, rel=1e-4)


def test_a_schedule_is_confirmed_along_its_stairs_with_fresh_seeds():
    found = search(pruner="pbt", trials=10, confirm=1, fresh=2)
    (sure,) = found.confirmed
    assert sure.seeds == (5, 6)
    runs = replay(found.problem, SGD, found.schedule, seeds=sure.seeds)
    assert sure.fresh == tuple(run.summary["valid_loss"] for run in runs)


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"pruner": "halvin"}, r"pruner='halvin'.*did you mean 'halving'"),
        ({"workers": 2}, r"pruner='halving' with workers=2"),
        ({"pruner": "pbt", "space": {"batch_size": integer(4, 8)}}, r"'batch_size' cannot change"),
        ({"pruner": "pbt", "trials": 1}, r"pruner='pbt' with trials=1"),
        ({"widen": True}, r"widen=True with pruner='halving'"),
        ({"recipe": SGD.edit(epochs=2)}, r"runs of 2: .* give epochs=3"),
    ],
)
def test_what_a_pruner_cannot_do_is_told_before_anything_trains(how, told):
    asked = {"recipe": SGD, "space": LR, "pruner": "halving"} | how
    with pytest.raises(InputError, match=told) as error:
        tune(problem(), folder=False, progress=False, **asked)
    assert "\n" not in str(error.value)
