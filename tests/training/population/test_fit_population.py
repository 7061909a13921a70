"""Populations: one member for every recipe and seed, problems in step with recipes."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

import downslope as ds
from downslope.core.errors import InputError, RecipeError
from downslope.training.fit import resume
from tests.training.problems import regression, same_history, same_state

HOW = ds.Recipe(lr=0.01, batch_size=16, epochs=2)


def test_members_come_recipe_by_recipe_and_have_folders_of_their_own(tmp_path: Path) -> None:
    runs = ds.fit_population(
        regression(), [HOW, HOW.edit(lr=0.1)], seeds=[1, 2], folder=tmp_path, progress=False
    )
    settings = [(run.recipe.lr, run.recipe.seed) for run in runs if run.recipe is not None]
    assert settings == [(0.01, 1), (0.01, 2), (0.1, 1), (0.1, 2)]
    members = [f"member-{i:03d}" for i in range(4)]
    assert [each.name for each in sorted(tmp_path.iterdir())] == ["environment.json", *members]
    assert same_history(ds.load_run(tmp_path / "member-002"), runs[2])


@pytest.mark.parametrize("way", ["together", "one by one"])
def test_the_environment_is_written_once_and_read_back_for_every_member(tmp_path: Path, way: Any) -> None:
    (run, _) = ds.fit_population(regression(), [HOW, HOW], folder=tmp_path, progress=False, way=way)
    assert [each.parent for each in tmp_path.rglob("environment.json")] == [tmp_path]
    assert run.environment
    assert ds.load_run(tmp_path / "member-001").environment == run.environment
    (tmp_path / "environment.json").write_text("{}")
    own = ds.fit(regression(), HOW, folder=tmp_path / "member-002", progress=False)
    assert ds.load_run(tmp_path / "member-002").environment == own.environment == run.environment


def test_each_recipe_may_have_a_problem_of_its_own() -> None:
    wide = regression().edit(**{"model.width": 16})
    runs = ds.fit_population([regression(), wide], [HOW, HOW], progress=False)
    assert [run.weights["last"]["0.weight"].shape[0] for run in runs] == [8, 16]


def test_problems_out_of_step_with_recipes_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"^[^\n]*one problem for all[^\n]*$"):
        ds.fit_population([regression(), regression()], [HOW], progress=False)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"recipes": None}, "recipes=None: must be a Recipe or a list of them"),
        ({"recipes": "adam"}, "recipes='adam': must be a Recipe"),
        ({"recipes": []}, r"recipes=\[\] holds nothing to train"),
        ({"recipes": {"a": HOW}}, "recipes={'a': .*must be a Recipe"),
        ({"recipes": [HOW, "adam"]}, "recipes holds 'adam': must be a Recipe"),
        ({"recipes": 3}, "recipes=3: must be a Recipe"),
        ({"problem": None}, "problem=None: must be a Problem"),
        ({"problem": "digits"}, "problem='digits': must be a Problem"),
        ({"problem": []}, r"problem=\[\] holds nothing to train"),
        ({"problem": [3]}, "problem holds 3: must be a Problem"),
        ({"seeds": 3}, r"seeds=3: must be a list of whole numbers, such as range\(3\)"),
        ({"seeds": []}, r"seeds=\[\] holds nothing to train: .*left out"),
        ({"seeds": range(0)}, r"seeds=range\(0, 0\) holds nothing to train"),
        ({"seeds": "12"}, "seeds='12': must be a list of whole numbers"),
        ({"seeds": [1.5]}, "seed=1.5: must be an integer"),
        ({"seeds": [True]}, "seed=True: must be an integer"),
        ({"seeds": [None]}, "seeds holds None: must be"),
        ({"way": "both"}, "way='both'"),
        ({"workers": 0}, "workers=0"),
        ({"workers": 1.5}, "workers=1.5"),
    ],
)
def test_what_is_no_population_is_refused_in_one_line(given: dict[str, Any], said: str) -> None:
    whole: dict[str, Any] = {"problem": regression(), "recipes": HOW, "progress": False} | given
    with pytest.raises(InputError, match=rf"^{said}[^\n]*$"):
        ds.fit_population(**whole)


def test_what_is_to_be_said_of_all_members_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    how = ds.Recipe(optimizer="lbfgs", batch_size=16, epochs=1)
    ds.fit_population(regression(), how, seeds=[1, 2, 3], progress=False)
    said = [each.getMessage() for each in caplog.records if "on batches of 16" in each.getMessage()]
    assert len(said) == 1


def test_a_member_that_fails_ends_the_population_or_says_why() -> None:
    def broken(output: object, target: object) -> object:
        raise RuntimeError("no objective at all")

    sick = regression(objective=broken)
    with pytest.raises(Exception, match="no objective at all"):
        ds.fit_population([regression(), sick, regression()], [HOW] * 3, progress=False)
    runs = ds.fit_population([regression(), sick, regression()], [HOW] * 3, progress=False, strict=False)
    assert [run.status for run in runs] == ["done", "failed", "done"]
    assert "no objective at all" in runs[1].facts["error"]


def test_a_population_whose_time_is_up_trains_nobody() -> None:
    assert ds.fit_population(regression(), [HOW, HOW], progress=False, until=time.monotonic() - 1.0) == []


# -- members that train together ---------------------------------------------------------------------------


def test_members_that_trained_together_are_read_back_from_their_folders(tmp_path: Path) -> None:
    runs = ds.fit_population(
        regression(), HOW, seeds=[1, 2, 3], folder=tmp_path, progress=False, way="together"
    )
    for index, run in enumerate(runs):
        kept = ds.load_run(tmp_path / f"member-{index:03d}", regression())
        assert kept.status == "done"
        assert kept.choices["population"] == "together with 2 others"
        assert same_history(kept, run)
        assert same_state(kept.model().state_dict(), run.model().state_dict())


class Stop:
    """Interrupts as Ctrl-C does, at the evaluation of one member after some steps."""

    def __init__(self, after: int) -> None:
        self.after = after

    def __call__(self, index: int, step: int, found: object) -> bool:
        if index == 1 and step >= self.after:
            signal.raise_signal(signal.SIGINT)
        return False


@pytest.mark.parametrize("optimizer", ["adamw", "momentum", "rmsprop"])
def test_interrupted_members_are_resumed_one_by_one_as_if_they_had_never_stopped(
    tmp_path: Path, optimizer: str
) -> None:
    how = ds.Recipe(
        optimizer=optimizer, lr=0.01, batch_size=16, epochs=6, precision="float64", schedule="cosine"
    )
    make = partial(regression, arguments={"dropout": 0.2})
    runs = ds.fit_population(
        make(), how, seeds=[1, 2, 3], folder=tmp_path, progress=False, way="together", on_evaluation=Stop(8)
    )
    assert [run.status for run in runs] == ["interrupted"] * 3
    assert 0 < runs[0].summary["steps"] < 24
    for index, seed in enumerate((1, 2, 3)):
        again = resume(tmp_path / f"member-{index:03d}", make(), progress=False)
        whole = ds.fit(make(), how.edit(seed=seed), folder=False, progress=False, observe=0.0)
        assert again.status == "done"
        ours, theirs = (run.history.series("train_loss") for run in (again, whole))
        assert ours.steps.tolist() == theirs.steps.tolist()
        assert ours.values.tolist() == pytest.approx(theirs.values.tolist(), rel=1e-9)
        assert again.summary["valid_loss"] == pytest.approx(whole.summary["valid_loss"], rel=1e-9)


class Interrupts:
    """Squared error that is interrupted once, at one of its calls, which its class counts for all."""

    calls = 0

    def __init__(self, at: int) -> None:
        Interrupts.calls, self.at = 0, at

    def __call__(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        Interrupts.calls += 1
        if self.calls == self.at:
            signal.raise_signal(signal.SIGINT)
        return (output - target).square().mean()


def test_members_interrupted_within_an_epoch_go_on_within_it(tmp_path: Path) -> None:
    how = ds.Recipe(optimizer="adam", lr=0.01, batch_size=16, epochs=6, precision="float64", average="ema")
    make = partial(regression, arguments={"dropout": 0.2}, metric=None)
    runs = ds.fit_population(
        make(objective=Interrupts(26)), how, seeds=[1, 2], folder=tmp_path, progress=False, way="together"
    )
    assert [run.status for run in runs] == ["interrupted"] * 2
    assert runs[0].summary["steps"] % 4
    for index, seed in enumerate((1, 2)):
        again = resume(tmp_path / f"member-{index:03d}", make(objective=Interrupts(0)), progress=False)
        whole = ds.fit(
            make(objective=Interrupts(0)), how.edit(seed=seed), folder=False, progress=False, observe=0.0
        )
        ours, theirs = (run.history.series("train_loss") for run in (again, whole))
        assert ours.steps.tolist() == theirs.steps.tolist()
        assert ours.values.tolist() == pytest.approx(theirs.values.tolist(), rel=1e-9)
        epochs = [run.history.series("train_epoch_loss").values.tolist() for run in (again, whole)]
        assert epochs[0] == pytest.approx(epochs[1], rel=1e-9)
        assert again.summary["valid_loss"] == pytest.approx(whole.summary["valid_loss"], rel=1e-9)


@pytest.mark.parametrize("way", ["together", "one by one"])
def test_who_watches_ends_a_member_and_leaves_the_others_alone(way: Any) -> None:
    seen: list[tuple[int, int]] = []

    def watch(index: int, step: int, found: Any) -> bool:
        seen.append((index, step))
        assert found.loss > 0
        return index == 1 and step >= 4

    runs = ds.fit_population(regression(), HOW, seeds=[1, 2, 3], progress=False, way=way, on_evaluation=watch)
    assert [run.status for run in runs] == ["done", "stopped", "done"]
    assert [run.summary["steps"] for run in runs] == [8, 4, 8]
    assert sorted(seen) == [(0, 4), (0, 8), (1, 4), (2, 4), (2, 8)]


def test_members_for_which_the_time_is_too_short_are_left_out() -> None:
    long = HOW.edit(epochs=100_000)
    runs = ds.fit_population(
        regression(), long, seeds=[1, 2], progress=False, way="together", until=time.monotonic() + 0.5
    )
    assert runs == []


def test_a_metric_that_fails_late_ends_the_population_or_says_why() -> None:
    calls = {"n": 0}

    def fickle(output: object, target: object) -> float:
        calls["n"] += 1
        if calls["n"] > 7:
            raise RuntimeError("no metric any more")
        return 0.0

    sick = regression(metric=fickle)
    with pytest.raises(Exception, match="no metric any more"):
        ds.fit_population(sick, HOW, seeds=[1, 2], progress=False, way="together")
    calls["n"] = 0
    runs = ds.fit_population(sick, HOW, seeds=[1, 2], progress=False, way="together", strict=False)
    assert {run.status for run in runs} == {"failed"}


def test_generators_and_threads_are_left_as_they_were() -> None:
    torch.manual_seed(5)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    ds.fit_population(
        regression(arguments={"dropout": 0.3}), HOW, seeds=[1, 2], progress=False, way="together"
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads


def test_a_population_that_trains_together_imports_no_compiler() -> None:
    code = (
        "import sys, torch, downslope as ds\n"
        "from tests.training.population.test_equal_to_fit import cnn, problem\n"
        "how = ds.Recipe(lr=0.01, batch_size=16, epochs=1)\n"
        "runs = ds.fit_population(problem(model=cnn), how, seeds=[1, 2], progress=False, way='together')\n"
        "assert runs[0].choices['population'] == 'together with 1 others', runs[0].choices\n"
        "assert not {'torch._dynamo', 'sympy', 'optuna'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
