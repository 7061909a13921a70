"""The race: equal tuning, fresh seeds for all alike, no winner between equals, everything lost is told."""

from __future__ import annotations

import functools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import downslope as ds
from downslope.core.errors import InputError, RunFolderError, UnknownNameError
from downslope.racing.race import race
from downslope.racing.ranking import tau
from downslope.racing.result import Race
from downslope.racing.sequential import Sequential


def _data(n: int, seed: int, scales: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0)) -> tuple[torch.Tensor, ...]:
    random = np.random.default_rng(seed)
    x = random.normal(size=(n, 4))
    y = (x @ np.array([1.0, -2.0, 0.5, 1.0]) + 0.3 * random.normal(size=n) > 0).astype(np.int64)
    x = x * np.asarray(scales)
    return torch.from_numpy(x), torch.from_numpy(y)


def _net() -> torch.nn.Module:
    return torch.nn.Linear(4, 2).double()


def problem(**changes: Any) -> ds.Problem:
    own: dict[str, Any] = {
        "model": _net, "objective": "cross_entropy", "train": _data(64, 0), "valid": _data(64, 1),
        "name": "line",
    }  # fmt: skip
    return ds.Problem(**own | changes)


SHORT = ds.Recipe(batch_size=16, epochs=2)
QUIET: dict[str, Any] = {"progress": False, "recipe": SHORT}


@functools.cache
def plain() -> Race:
    return race(problem(), ["sgd", "adam"], seeds=8, trials=4, **QUIET)


def test_every_contestant_is_tuned_by_the_same_number_of_runs_and_raced_on_seeds_that_tuning_never_saw() -> (
    None
):
    found = plain()
    spent = [each.tuning_cost for each in found.entries]
    assert [each["runs"] for each in spent] == [4, 4]
    assert spent[0]["steps"] == spent[1]["steps"] == 4 * 8
    tuned = {one.seed for each in found.entries for one in each.tuning}
    raced = [[one.seed for one in each.raced] for each in found.entries]
    assert raced[0] == raced[1]
    assert not tuned & set(raced[0])


def test_the_raced_recipe_is_the_best_trial_and_its_runs_are_those_of_fit() -> None:
    found = plain().entry("sgd")
    best = min(found.tuning, key=lambda one: one.level)
    assert found.values == pytest.approx(best.values)
    alone = ds.fit(
        problem(), found.recipe.edit(seed=found.raced[3].seed), folder=False, progress=False, observe=0
    )
    assert found.raced[3].level == pytest.approx(alone.summary["valid_loss"], rel=1e-9)
    assert found.raced[3].levels[-1] == pytest.approx(alone.history.series("valid_loss").values[-1], rel=1e-9)


def test_the_first_trial_is_as_given_so_that_nobody_is_tuned_to_be_worse_than_that() -> None:
    first = plain().entry("adam").tuning[0]
    assert first.values == {}
    alone = ds.fit(problem(), SHORT.edit(optimizer="adam", seed=0), folder=False, progress=False, observe=0)
    assert first.level == pytest.approx(alone.summary["valid_loss"], rel=1e-9)


def test_contestants_share_the_quantiles_of_the_keys_they_share() -> None:
    found = race(problem(), ["momentum", "nesterov"], seeds=2, trials=3, **QUIET)
    rates = [[one.values.get("lr") for one in each.tuning] for each in found.entries]
    assert rates[0] == rates[1]


def test_a_race_between_a_recipe_and_itself_is_a_tie_and_undecided() -> None:
    found = race(problem(), {"one": "sgd", "other": "sgd"}, seeds=8, trials=3, **QUIET)
    assert found.paired("one", "other").mean == 0
    assert found.winner is None
    assert "undecided" in found.table()


def test_real_runs_of_one_recipe_on_other_seeds_are_undecided_in_95_percent() -> None:
    """160 runs of one recipe, dealt into 10 races of 8 pairs, and dealt again."""
    runs = ds.fit_population(
        problem(), SHORT.edit(optimizer="sgd", lr=0.05, epochs=1), list(range(160)), progress=False
    )
    levels = np.asarray([run.summary["valid_loss"] for run in runs])
    assert levels.std() > 0
    test, decided = Sequential(planned=8), 0
    for shuffle in range(50):  # 500 races, of which 10 at a time share no run
        dealt = np.random.default_rng(shuffle).permutation(levels).reshape(10, 2, 8)
        decided += sum(test.verdict((b - a).tolist()) != "undecided" for a, b in dealt)
    assert decided / 500 <= 0.05


def test_a_known_difference_is_found_and_the_race_stops_early() -> None:
    slow, fast = SHORT.edit(optimizer="sgd", lr=1e-4), SHORT.edit(optimizer="sgd", lr=0.3)
    found = race(problem(), {"slow": slow, "fast": fast}, seeds=20, trials=0, progress=False)
    assert found.winner == "fast"
    assert found.status == "decided"
    assert 7 <= found.seeds < 12
    assert found.paired("fast", "slow").low > 0
    assert "decided early" in found.table()


def test_a_contestant_that_diverges_is_told_and_loses() -> None:
    wild = SHORT.edit(optimizer="sgd", lr=1.7e308)
    found = race(
        problem(),
        {"wild": wild, "tame": SHORT.edit(optimizer="sgd", lr=0.1)},
        seeds=8,
        trials=0,
        progress=False,
    )
    assert found.entry("wild").lost == len(found.entry("wild").raced) > 0
    assert found.winner == "tame"
    assert any("wild was lost on" in note for note in found.notes)
    assert "lost" in found.table()


def test_seeds_that_change_nothing_are_one_run_and_decide_nothing() -> None:
    """A fixed start and full batches: eight equal differences are one."""

    def still() -> torch.nn.Module:
        made = _net()
        for p in made.parameters():
            torch.nn.init.constant_(p, 0.1)
        return made

    whole = SHORT.edit(batch_size="full", lr=0.1)
    slow, fast = whole.edit(optimizer="gd", lr=1e-3), whole.edit(optimizer="gd", lr=0.3)
    found = race(problem(model=still), {"slow": slow, "fast": fast}, seeds=8, trials=0, progress=False)
    assert found.paired("fast", "slow").pairs == 1
    assert found.winner is None
    assert any("the seeds change nothing of fast" in note for note in found.notes)
    both = {"one": problem(model=still), "other": problem(model=still, train=_data(64, 7))}
    assert race(both, {"slow": slow, "fast": fast}, seeds=8, trials=0, progress=False).winner is None


def test_one_that_cannot_be_trained_is_out_with_its_cause_and_is_never_dropped_in_silence() -> None:
    found = race(problem(), ["sgd", "adam", "torch.optim:Muon"], seeds=2, trials=2, **QUIET)
    assert found.racing == ["sgd", "adam"]
    assert "2D" in found.entry("Muon").error
    assert "out:" in found.table()
    assert any("Muon is out" in note for note in found.notes)


def test_torchs_own_classes_race() -> None:
    found = race(problem(), ["torch.optim:ASGD", "adam"], seeds=2, trials=2, **QUIET)
    assert found.racing == ["ASGD", "adam"]


def test_nobody_who_can_be_trained_is_an_error_with_the_cause() -> None:
    with pytest.raises(InputError, match=r"no contestant can be trained: .*2D"):
        race(problem(), {"a": "torch.optim:Muon", "b": "torch.optim:Muon"}, seeds=2, trials=2, **QUIET)


def test_without_validation_data_the_training_loss_judges_and_that_is_told() -> None:
    own = problem(valid=None)
    found = race(own, ["sgd", "adam"], seeds=2, trials=2, **QUIET)
    assert found.entry("sgd").measure.column == "train_loss"
    assert any("training loss" in note for note in found.notes)
    assert len(found.entry("sgd").raced[0].steps) == 2  # an epoch each


def test_with_a_metric_the_goal_is_the_target_and_stops_no_run() -> None:
    own = problem(metric="accuracy", goal=0.6)
    found = race(own, ["sgd", "adam"], seeds=3, trials=3, **QUIET)
    entry = found.entry("sgd")
    assert (entry.target.level, entry.target.source) == (0.6, "goal")
    assert all(one.taken == 8 for one in entry.raced)
    for one, steps in zip(entry.raced, entry.steps_to_target, strict=True):
        reached = [s for s, level in zip(one.steps, one.levels, strict=True) if level >= 0.6]
        assert steps == (reached[0] if reached else math.inf)
    assert found.entry("sgd").seconds_to_target == pytest.approx(
        [each * entry.step_seconds for each in entry.steps_to_target]
    )


def test_without_a_goal_the_target_is_a_share_of_the_way_of_the_reference() -> None:
    entry = plain().entry("sgd")
    assert entry.target.source == "reference"
    best = min((e for e in plain().entries), key=lambda e: min(one.level for one in e.tuning))
    trial = min(best.tuning, key=lambda one: one.level)
    assert entry.target.level == pytest.approx(trial.levels[0] + 0.95 * (trial.level - trial.levels[0]))


def test_several_problems_are_one_race_and_each_has_its_own_tuning() -> None:
    other = problem(train=_data(64, 5), name="other")
    found = race([problem(), other], ["sgd", "adam"], seeds=2, trials=2, **QUIET)
    assert found.problems == ["line", "other"]
    assert len(found.profile().instances) == 2
    assert found.tuning["sgd"]["runs"] == 4
    assert abs(found.paired("sgd", "adam").mean) <= 2
    assert set(found.score) == {"sgd", "adam"}


def test_tuned_anew_for_every_seed_each_replicate_has_its_own_values() -> None:
    found = race(problem(), ["sgd", "adam"], seeds=3, trials=3, retune=True, early=False, **QUIET)
    own = found.entry("sgd")
    assert len(own.tuning) == 9
    assert len({one.seed for one in own.tuning}) == 3
    assert found.table().count("other values for every seed") == 2
    assert len({json.dumps(one.values, sort_keys=True) for one in own.tuning if one.number}) == 6


def test_tuning_makes_the_ranking_stable() -> None:
    """Two whole races from other draws agree more often when each takes the best of 16 than of 1.

    Outcomes of 3 methods on 48 rates of 10^U(-5, 1), inputs of four scales: a race draws its trials among
    them.
    """
    scales = (1.0, 0.03, 10.0, 0.3)
    own = problem(train=_data(64, 0, scales), valid=_data(64, 1, scales))
    rates = 10 ** np.random.default_rng(0).uniform(-5, 1, 48)
    methods = ("sgd", "momentum", "adam")
    recipes = [SHORT.edit(optimizer=name, lr=float(lr), epochs=3) for name in methods for lr in rates]
    runs = ds.fit_population(own, recipes, progress=False, strict=False)
    ends = [run.summary["valid_loss"] if run.status == "done" else math.inf for run in runs]
    levels = np.asarray(ends).reshape(3, 48)
    random = np.random.default_rng(1)

    def agreement(trials: int) -> float:
        races = [
            [levels[i, random.choice(48, trials, replace=False)].min() for i in range(3)] for _ in range(300)
        ]
        return float(np.mean([tau(a, b) for a, b in zip(races[::2], races[1::2], strict=True)]))

    assert agreement(1) < 0.4
    assert agreement(16) > 0.7


def test_a_race_goes_on_where_it_was_cut_and_comes_to_the_same_end(tmp_path: Path) -> None:
    options: dict[str, Any] = {**QUIET, "seeds": 4, "trials": 3}
    whole = race(problem(), ["sgd", "adam"], folder=tmp_path / "a", **options)
    lines = (tmp_path / "a" / "race.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "race.jsonl").write_text("".join(lines[:7]) + lines[7][:20])  # cut within a line
    told: list[str] = []
    again = race(problem(), ["sgd", "adam"], folder=tmp_path / "b", begin=told.append, **options)
    assert "there already" in told[0]
    for a, b in zip(whole.entries, again.entries, strict=True):
        assert a.levels == b.levels
        assert a.values == b.values
    kept = (tmp_path / "b" / "race.jsonl").read_text().splitlines()
    assert len(kept) == len(lines)
    assert all(json.loads(line)["kind"] for line in kept)


def test_a_folder_of_another_race_is_refused(tmp_path: Path) -> None:
    options: dict[str, Any] = {**QUIET, "trials": 0, "folder": tmp_path}
    race(problem(), ["sgd", "adam"], seeds=2, **options)
    with pytest.raises(RunFolderError, match="seeds was 2, now 3"):
        race(problem(), ["sgd", "adam"], seeds=3, **options)


def test_ctrl_c_in_any_phase_keeps_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    from downslope.racing import course

    own = course.fit_population
    for broken in range(3):
        calls: list[str] = []

        def stopping(*args: Any, calls: list[str] = calls, broken: int = broken, **options: Any) -> Any:
            calls.append(options["label"])
            if len(calls) > broken:
                raise KeyboardInterrupt
            return own(*args, **options)

        monkeypatch.setattr(course, "fit_population", stopping)
        found = race(problem(), ["sgd", "adam"], seeds=2, trials=2, **QUIET)
        assert found.status == "interrupted"
        assert sum(len(each.tuning) for each in found.entries) == 2 * broken
        assert "interrupted" in found.table()


def test_ctrl_c_before_the_first_run_is_told_too(monkeypatch: pytest.MonkeyPatch) -> None:
    from downslope.racing import course

    def stopping(*args: Any, **options: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(course, "pace", stopping)
    found = race(problem(), ["sgd", "adam"], seeds=2, trials=2, **QUIET)
    assert found.status == "interrupted"
    assert "no seed was raced" in found.table()
    assert found.to_dict()["winner"] is None


def test_a_budget_that_is_too_small_takes_trials_from_all_alike() -> None:
    found = race(problem(), ["sgd", "adam"], seeds=2, trials=4000, seconds=0.2, **QUIET)
    assert found.trials < 4000
    assert any("do not fit" in note for note in found.notes)


def test_when_the_time_is_up_what_there_is_is_kept() -> None:
    found = race(problem(), ["sgd", "adam"], seeds=2, trials=4, seconds=1e-3, **QUIET)
    assert found.status == "time"
    assert "the time is up" in found.table()


def test_steps_to_the_target_may_decide() -> None:
    slow, fast = SHORT.edit(optimizer="sgd", lr=0.03), SHORT.edit(optimizer="sgd", lr=1.0)
    options: dict[str, Any] = {"seeds": 8, "trials": 0, "by": "steps", "target": 0.5, "progress": False}
    found = race(problem(), {"slow": slow.edit(epochs=8), "fast": fast.edit(epochs=8)}, **options)
    assert found.winner == "fast"
    assert found.entry("fast").median_steps < found.entry("slow").median_steps
    assert found.score_in("steps")["fast"] == 1.0


def test_a_race_is_saved_as_plain_json(tmp_path: Path) -> None:
    found = json.loads(plain().save(tmp_path / "deep" / "race.json").read_text())
    assert found["winner"] == plain().winner
    assert [each["contestant"] for each in found["entries"]] == ["sgd", "adam"]
    assert found["tuning"]["sgd"]["runs"] == 4


@pytest.mark.parametrize(
    ("contestants", "options", "kind", "said"),
    [
        ([], {}, InputError, "no contestants"),
        (["adam"], {}, InputError, "one contestant, 'adam'"),
        ("adam", {}, InputError, "must be a list"),
        (["sgd", "sgd"], {}, InputError, "two contestants are called 'sgd'"),
        (["sgd", "adma"], {}, UnknownNameError, "did you mean 'adam'"),
        (["sgd", "asgd"], {}, UnknownNameError, "torch's own is 'torch.optim:ASGD'"),
        (["sgd", 3], {}, InputError, "contestant 3"),
        (["sgd", "adam"], {"seeds": 1}, InputError, "seeds=1: .*one seed tells no spread"),
        (["sgd", "adam"], {"trials": -1}, InputError, "trials=-1"),
        (["sgd", "adam"], {"by": "luck"}, InputError, "by='luck'"),
        (["sgd", "adam"], {"alpha": 1.0}, InputError, "alpha=1.0"),
        (["sgd", "adam"], {"retune": True, "trials": 1}, InputError, "nothing to tune anew"),
        (["sgd", "adam"], {"reference": "adamm"}, InputError, "did you mean 'adam'"),
        (["sgd", "adam"], {"target": math.nan}, InputError, "target=nan"),
        (["sgd", "adam"], {"seconds": 0}, InputError, "seconds=0"),
        (["sgd", "adam"], {"space": {"learn_rate": ds.log(1e-3, 1)}}, InputError, "learn_rate"),
    ],
)
def test_what_cannot_be_raced_is_told_in_one_line(
    contestants: Any, options: dict[str, Any], kind: type[Exception], said: str
) -> None:
    with pytest.raises(kind, match=said) as error:
        race(problem(), contestants, **QUIET | options)
    assert "\n" not in str(error.value)


def test_problems_that_are_none_or_of_one_name_are_refused() -> None:
    with pytest.raises(InputError, match="no problem"):
        race([], ["sgd", "adam"])
    with pytest.raises(InputError, match="one name"):
        race([problem(), problem()], ["sgd", "adam"])
    with pytest.raises(InputError, match=r"ds\.Problem"):
        race([3], ["sgd", "adam"])  # type: ignore[list-item]
