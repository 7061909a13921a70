"""The verb: every trial in the journal before it trains, budgets kept, nothing lost."""

from __future__ import annotations

import json
import math
import os
import signal
import time

import pytest
from torch import nn

from downslope.core import edits
from downslope.core.errors import InputError, RunFolderError, SpaceError, StorageError
from downslope.core.recipe import Recipe
from downslope.core.run import load_run
from downslope.core.space import choice, integer, log, uniform
from downslope.training.evaluate import evaluate
from downslope.training.fit import fit
from downslope.tuning import trained
from downslope.tuning.reading import read_trials
from downslope.tuning.storage import open_storage
from downslope.tuning.trials import Trials
from downslope.tuning.tune import load_search, resume, tune
from tests.tuning.searches import LR, problem, sgd

SGD = sgd(steps=6)


def search(*args, **how):
    how = {"progress": False, "folder": False, "trials": 8, "confirm": 0} | how
    return tune(*(args or (problem(), SGD, LR)), **how)


def values(found) -> list[dict]:
    return [dict(each.values) for each in found.trials]


def test_each_trial_has_the_value_that_fit_gives_and_the_best_is_the_least():
    found = search()
    assert [each.state for each in found.trials] == ["done"] * 8
    for each in found.trials[:3]:
        alone = fit(problem(), SGD.edit(lr=each.values["lr"]), folder=False, progress=False)
        assert each.value == pytest.approx(alone.summary["valid_loss"], rel=1e-5)
    assert found.best.value == min(each.value for each in found.trials)
    again = fit(*found.best, folder=False, progress=False)
    assert again.summary["valid_loss"] == pytest.approx(found.best.value, rel=1e-5)
    assert found.done[0].number == found.best.number


def test_a_metric_that_is_better_when_higher_is_maximised():
    found = search(problem(metric="r2"), SGD, LR)
    assert found.measure == "valid r2"
    assert found.best.value == max(each.value for each in found.trials)


def test_every_trial_is_in_the_journal_before_any_of_its_batch_trains(tmp_path, monkeypatch):
    seen: list[int] = []
    train = trained.fit_population

    def watched(problems, recipes, *args, **how):
        lines = (tmp_path / "s" / "journal.log").read_text().splitlines()
        recorded = [json.loads(line) for line in lines]
        seen.append(sum("params" in json.dumps(each) or each.get("op_code") == 4 for each in recorded))
        return train(problems, recipes, *args, **how)

    monkeypatch.setattr(trained, "fit_population", watched)
    search(folder=tmp_path / "s", batch=4)
    assert len(seen) == 2
    assert seen[0] >= 4
    assert seen[1] >= 8


def test_a_search_that_goes_on_ends_as_the_uninterrupted_one(tmp_path):
    whole = search(trials=9, batch=4)
    search(trials=5, batch=4, folder=tmp_path / "s")
    with pytest.raises(RunFolderError, match="holds a search already"):
        search(trials=9, folder=tmp_path / "s")
    parts = search(trials=9, batch=4, folder=tmp_path / "s", resume=True)
    assert values(parts) == values(whole)
    assert [each.value for each in parts.trials] == [each.value for each in whole.trials]
    assert sorted(parts.curves) == list(range(9))
    with pytest.raises(StorageError, match="holds another search"):
        search(problem(), SGD, {"lr": log(1e-4, 0.6)}, folder=tmp_path / "s", resume=True)


class Interrupting(nn.Linear):
    """Presses Ctrl-C once, in its n-th forward pass."""

    left = 10**9

    def forward(self, x):
        Interrupting.left -= 1
        if Interrupting.left == 0:
            signal.raise_signal(signal.SIGINT)
        return super().forward(x)


def _interrupting() -> nn.Module:
    return Interrupting(3, 1)


def interrupted(**how):
    return search(problem(model=_interrupting), SGD, LR, batch=3, **how)


def test_ctrl_c_in_training_keeps_what_there_is_and_resume_ends_it(tmp_path):
    def arm(standing):
        if standing.running and standing.ended >= 3 and Interrupting.left > 10**6:
            Interrupting.left = 2  # in the second batch, however its members are trained

    Interrupting.left = 10**9
    part = interrupted(folder=tmp_path / "s", confirm=1, fresh=2, watch=arm)
    assert part.interrupted
    assert 0 < len(part.done) < 8
    assert not [each for each in part.trials if each.state == "running"]
    Interrupting.left = 10**9
    rest = resume(tmp_path / "s", problem(model=_interrupting), progress=False)
    assert not rest.interrupted
    assert len(rest.done) == 8
    assert len(rest.best.fresh) == 2
    Interrupting.left = 1  # of a search that has ended nothing is trained again
    assert resume(tmp_path / "s", problem(model=_interrupting), progress=False).best.fresh == rest.best.fresh
    assert Interrupting.left == 1


def test_ctrl_c_in_the_confirmation_keeps_the_search():
    def press(standing):
        if standing.phase == "confirming":
            raise KeyboardInterrupt

    found = search(confirm=2, fresh=3, watch=press)
    assert found.interrupted
    assert len(found.done) == 8
    assert "not confirmed" in str(found)


def test_a_trial_that_diverges_is_the_worst_and_no_failure():
    found = search(problem(), SGD.edit(steps=60), {"lr": log(1e-2, 1e8)}, trials=12)
    gone = [each for each in found.trials if each.attrs.get("diverged")]
    assert gone
    assert not found.failures
    assert all(each.state == "pruned" for each in gone)
    assert math.isfinite(found.best.value)
    assert "diverged" in str(found)
    assert "at lr from" in str(found)


def test_when_everything_fails_it_ends_early_with_the_common_cause():
    def broken(output, target):
        raise RuntimeError("no such table")

    found = search(problem(objective=broken), SGD, LR, trials=40, batch=8)
    assert len(found.trials) == 8
    assert "all 8 trials failed" in found.stopped
    with pytest.raises(InputError, match="no such table"):
        _ = found.best
    assert "no such table" in str(found)


def test_some_that_fail_cost_nothing_but_themselves():
    def picky(width: int = 1) -> nn.Module:
        if width == 3:
            raise ValueError("three is too many")
        return nn.Linear(3, 1)

    found = search(problem(model=picky), SGD, {"model.width": integer(1, 4), **LR}, trials=12)
    failed = [each for each in found.trials if each.state == "failed"]
    assert failed
    assert {each.values["model.width"] for each in failed} == {3}
    assert "three is too many" in found.failures[0].cause
    assert found.best.values["model.width"] != 3


def test_the_best_few_are_trained_again_with_seeds_that_the_search_has_not_seen():
    found = search(confirm=2, fresh=3, seeds=2)
    assert [len(each.fresh) for each in found.confirmed] == [3, 3]
    assert found.best.seeds == (6, 7, 8)  # after the recipe's own two
    alone = [
        fit(found.best.problem, found.best.recipe.edit(seed=seed), folder=False, progress=False).summary[
            "valid_loss"
        ]
        for seed in found.best.seeds
    ]
    assert found.best.fresh == pytest.approx(alone, rel=1e-5)
    low, high = found.best.interval
    assert low < found.best.mean < high
    assert "3 fresh seeds" in str(found)


def test_the_saved_recipe_is_what_was_best(tmp_path):
    space = {**LR, "model.width": integer(1, 3), "objective.delta": uniform(0.5, 2)}
    found = search(problem(objective="huber"), SGD, space, trials=5)
    recipe, changes = edits.load(found.save(tmp_path / "best.toml"))
    assert recipe == found.recipe
    same = problem(objective="huber").edit(*changes)
    assert same.arguments == found.best.problem.arguments
    assert str(same.objective) == str(found.best.problem.objective)


@pytest.mark.parametrize(("steps", "confirmed", "fresh"), [(600, 3, 5), (150, 1, 5), (60, 1, 2), (20, 0, 0)])
def test_a_budget_of_steps_is_not_exceeded_and_a_part_is_kept_to_confirm(steps, confirmed, fresh):
    found = search(trials=None, steps=steps, confirm=3, fresh=5, batch=4)
    assert 0.6 * steps <= found.steps <= steps
    assert len(found.confirmed) == confirmed
    assert len(found.best.fresh) == fresh


def test_a_range_is_widened_on_the_way_and_goes_on_widened(tmp_path):
    space = {"lr": log(1e-5, 1e-3), "weight_decay": log(1e-7, 1e-3)}
    found = search(problem(), SGD, space, trials=36, batch=24, widen=True, seed=1, folder=tmp_path / "s")
    assert "lr after 24 trials, from log:1e-05:0.001 to log:1e-05:0.01" in found.widenings[0]
    assert found.space["lr"] == log(1e-5, 1e-2)
    assert found.best.values["lr"] > 1e-3
    again = resume(tmp_path / "s", problem(), progress=False)
    assert again.space == found.space
    assert values(again) == values(found)
    more = search(problem(), SGD, space, trials=40, widen=True, seed=1, folder=tmp_path / "s", resume=True)
    assert any(each.values["lr"] > 1e-3 for each in more.trials[36:])


def test_what_one_process_widens_is_wider_for_the_others_too(tmp_path):
    space = {"lr": log(1e-5, 1e-3), "weight_decay": log(1e-7, 1e-3)}
    how = {"widen": True, "seed": 1, "storage": tmp_path / "shared.log"}
    one = search(problem(), SGD, space, trials=36, batch=24, folder=tmp_path / "a", **how)
    assert one.space["lr"] == log(1e-5, 1e-2)
    other = search(problem(), SGD, space, trials=40, folder=tmp_path / "b", **how)
    assert other.space == one.space
    assert other.widenings == one.widenings
    assert any(each.values["lr"] > 1e-3 for each in other.trials[36:])


def test_who_finds_nothing_left_to_begin_says_who_trains(tmp_path):
    place = tmp_path / "shared.log"
    first = search(trials=4, storage=place, folder=tmp_path / "a")
    with open_storage(place) as storage:
        trials = Trials(storage, first.space, signature=first.plan.signature)
        trials.begin([{"lr": 0.01}] * 2)
        second = search(trials=6, storage=place, folder=tmp_path / "b")
        told = f"2 trials are still being trained by process {os.getpid()} on "
        assert any(label == "running" and told in text for label, text in second.told())
        assert second.found


@pytest.mark.parametrize("sampler", ["random", "grid", "tpe"])
def test_a_space_whose_points_have_all_been_tried_ends_the_search_and_says_so(sampler):
    found = search(problem(), SGD, {"lr": choice(0.1, 0.03, 0.01)}, trials=50, sampler=sampler)
    assert sorted(each.values["lr"] for each in found.trials) == [0.01, 0.03, 0.1]
    assert "every configuration of the space has been tried" in str(found)


def test_a_grid_of_more_points_than_trials_is_told(caplog):
    space = {"lr": log(1e-3, 0.5), "weight_decay": log(1e-7, 1e-1), "batch_size": choice(6, 12)}
    assert len(search(problem(), SGD, space, trials=5, sampler="grid").trials) == 5
    assert "the grid has 8 points, of which 5 trials take some by lot" in caplog.text


def test_a_search_is_read_from_its_folder_without_training(tmp_path):
    found = search(trials=12, confirm=1, fresh=2, folder=tmp_path / "s")
    lines = (tmp_path / "s" / "journal.log").read_bytes()
    again = load_search(tmp_path / "s", problem())
    assert again.to_dict() == found.to_dict()
    assert str(again) == str(found)
    assert again.curves == found.curves
    assert (tmp_path / "s" / "journal.log").read_bytes() == lines


def test_the_best_is_said_in_a_line():
    found = search(trials=3, confirm=1, fresh=2)
    text = repr(found.best)
    assert text == f"Best({found.best})"
    assert len(text) < 150
    low, high = found.best.interval
    assert f"valid loss {found.best.mean:.4g} (95 % {low:.4g} to {high:.4g} over 2 fresh seeds)" in text


def test_a_folder_of_other_things_is_told(tmp_path, caplog):
    search(trials=1, folder=tmp_path / "own")
    assert "is not empty" not in caplog.text
    (tmp_path / "thesis.tex").touch()
    search(trials=1, folder=tmp_path)
    assert f"{tmp_path} is not empty (own, thesis.tex)" in caplog.text
    (tmp_path / "lab" / "scans").mkdir(parents=True)
    for _ in range(2):  # there is a journal when the second comes
        search(trials=1, storage=tmp_path / "lab")
    assert caplog.text.count("is not empty (scans)") == 1


def test_who_reads_a_search_or_members_as_a_run_is_told_what_is_there(tmp_path):
    search(trials=1, folder=tmp_path / "s")
    with pytest.raises(RunFolderError, match=r"s: no run there \(a search is: ds.load_search reads it\)"):
        load_run(tmp_path / "s")
    fit(problem(), SGD, folder=tmp_path / "p" / "member-000", progress=False)
    with pytest.raises(RunFolderError, match=r"1 is in folders below, such as .*member-000\)"):
        load_run(tmp_path / "p")
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "race.jsonl").touch()
    with pytest.raises(RunFolderError, match=r"a race is: ds.load_race reads it"):
        load_run(tmp_path / "r")


def test_the_next_search_starts_from_this_one():
    found = search(trials=24, seed=1)
    again = search(*found.best, found.finer, trials=4)
    assert list(again.space) == ["lr"]


def test_a_budget_of_time_ends_it_and_gives_back_what_did_not_fit():
    slow = problem(model=lambda: Slow(3, 1))
    found = search(slow, SGD, LR, trials=None, seconds=1.0, batch=4, confirm=1, fresh=2)
    assert found.done or "a trial takes about" in found.nothing  # on a machine that is busy enough
    assert {each.state for each in found.trials} <= {"done", "waiting", "given back"}


def test_a_budget_in_which_nothing_fits_says_what_a_trial_takes():
    with pytest.raises(InputError, match="a trial takes 6 steps, there are 5 in all"):
        _ = search(trials=None, steps=5).best
    assert len(search(trials=None, steps=6).done) == 1
    with pytest.raises(InputError, match=r"a trial takes about .* s, and there are 0\.001 s in all"):
        _ = search(trials=None, seconds=1e-3).best


class Slow(nn.Linear):
    """Takes 2 ms for each pass."""

    def forward(self, x):
        time.sleep(0.002)
        return super().forward(x)


def test_without_a_space_the_optimizers_own_is_searched():
    found = search(problem(), Recipe(optimizer="momentum", steps=3), trials=3)
    assert list(found.space) == ["lr", "momentum", "weight_decay"]


def test_a_grid_ends_when_all_of_it_is_there():
    found = search(
        problem(), SGD, {"lr": [0.1, 0.01], "batch_size": choice(6, 12)}, trials=50, sampler="grid"
    )
    assert len(found.trials) == 4


def test_trials_end_on_their_way_where_asked():
    recipe = Recipe(optimizer="sgd", epochs=9, batch_size=24)
    found = search(problem(), recipe, {"lr": log(1e-5, 0.5)}, trials=12, pruner="stop-halving")
    pruned = [each for each in found.trials if each.state == "pruned"]
    assert pruned
    assert found.steps < 12 * 9
    with pytest.raises(InputError, match="'hyper' is not known; did you mean 'hyperband'"):
        search(pruner="hyper")


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"trials": 0}, "trials=0: must be a whole number from 1"),
        ({"seconds": -1}, r"seconds=-1: must lie in \(0, inf\)"),
        ({"steps": 1.5}, "steps=1.5"),
        ({"sampler": "tpee"}, "did you mean 'tpe'"),
        ({"seeds": 0}, "seeds=0"),
        ({"fresh": 1}, "fresh=1"),
        ({"resume": True}, "folder=False"),
        ({"seed": -1}, "seed=-1"),
        ({"ray": "auto", "workers": 2}, "workers=2 with ray='auto': give one of them"),
    ],
)
def test_what_is_asked_for_wrongly_is_refused_before_anything_is_trained(how, told):
    with pytest.raises(InputError, match=told):
        search(**how)


def test_spaces_that_are_none_are_refused():
    with pytest.raises(SpaceError, match="did you mean 'lr'"):
        search(problem(), SGD, {"lrr": log(1e-4, 1)})
    with pytest.raises(InputError, match="nothing to search"):
        search(problem(), SGD, {})
    with pytest.raises(RunFolderError, match="no search there"):
        resume("nowhere", progress=False)


@pytest.mark.parametrize("given", ["huber", nn.HuberLoss()])
def test_trials_whose_objectives_differ_are_judged_by_the_problems_own(given, tmp_path):
    key = "objective.delta" if given == "huber" else "objective"
    space = {key: uniform(0.2, 2.0) if given == "huber" else choice("mse", "huber")}
    found = tune(
        problem(objective=given), SGD, space, trials=4, confirm=0, progress=False, folder=tmp_path / "s"
    )
    measured = problem(objective="huber")
    for each in found.done:
        own = problem(objective=given).edit(**each.values)
        run = fit(own, SGD, folder=False, progress=False)
        assert each.value == pytest.approx(
            evaluate(measured, run.model(), measured.valid_source).loss, rel=1e-5
        )
    assert "valid huber" in str(found).lower() or not isinstance(given, str)
    again = resume(tmp_path / "s", problem(objective=given), progress=False)
    assert [each.value for each in again.trials] == [each.value for each in found.trials]


def test_an_objective_that_is_no_measure_is_not_searched_without_one():
    def asking(output, target, inputs):
        return (output - target).square().mean() + 0 * inputs.sum()

    with pytest.raises(InputError, match="has no metric: each trial would be judged by an objective of its"):
        tune(problem(objective=asking), SGD, {"objective": choice("mse", "huber")}, progress=False)


def test_arguments_that_are_searched_need_no_default():
    def made(width):
        if width > 6:
            raise ValueError("too wide")
        return nn.Sequential(nn.Linear(3, width), nn.Linear(width, 1))

    space = {"model.width": integer(2, 9)}
    found = tune(
        problem(model=made), SGD, space, trials=8, confirm=0, seconds=60, progress=False, folder=False
    )
    assert {each.values["model.width"] > 6 for each in found.done} == {False}
    assert {each.values["model.width"] > 6 for each in found.trials if each.state == "failed"} == {True}


def test_a_run_of_the_confirmation_that_ctrl_c_cut_short_confirms_nothing():
    heard = []

    def press(standing):
        if standing.phase == "confirming" and not heard:
            heard.append(standing.seconds)
            signal.raise_signal(signal.SIGINT)

    found = search(problem(), sgd(epochs=40), LR, trials=4, confirm=2, fresh=3, watch=press)
    assert heard
    assert found.interrupted
    assert not found.confirmed


def test_a_sampler_that_learns_does_so_before_the_budget_is_spent():
    learning = search(sampler="tpe", trials=24)
    assert values(learning)[:8] == values(search(sampler="tpe", trials=8))
    assert values(learning) != values(search(sampler="tpe", trials=24, batch=24))


class Counting(nn.Linear):
    """Counts its calls in Python, so that members of a population go one by one."""

    calls = 0

    def forward(self, x):
        self.calls += 1
        return super().forward(x)


def test_a_trial_is_written_as_soon_as_it_has_ended(tmp_path, monkeypatch):
    monkeypatch.setattr("downslope.tuning.hunt.OFTEN", 0.0)
    seen = []

    def look(standing):
        written = read_trials(tmp_path / "s", LR)
        seen.append((standing.ended, sum(each.state == "done" for each in written), len(standing.running)))

    given = problem(model=lambda: Counting(3, 1))
    found = search(given, SGD, LR, trials=4, seeds=2, folder=tmp_path / "s", watch=look)
    assert [(done, done, 4 - done) for done in range(5)] == list(dict.fromkeys(seen))
    whole = search(problem(), SGD, LR, trials=4, seeds=2)
    assert [each.value for each in found.trials] == pytest.approx([each.value for each in whole.trials])
    assert found.seconds >= math.fsum(each.attrs["seconds"] for each in found.trials) > 0
