"""Finished runs: judged from their folder as from memory, and what only the problem could tell is named."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import downslope as ds
from downslope.cli import guard
from downslope.cli.main import main
from downslope.diagnosis.diagnosis import Diagnosis
from downslope.diagnosis.symptom import registry

TABLE = ds.data.digits(scale=16.0)


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


def problem(**changes: Any) -> ds.Problem:
    given: dict[str, Any] = {
        "model": mlp, "objective": nn.CrossEntropyLoss(), "train": TABLE.train, "valid": TABLE.valid,
        "metric": "accuracy",
    }  # fmt: skip
    return ds.Problem(**given | changes)


GOOD = ds.Recipe(optimizer="adam", lr=3e-3, epochs=15)
LOST = ds.Recipe(optimizer="sgd", lr=1e-7, epochs=3)


def from_folder(folder: Path, made: ds.Problem, recipe: ds.Recipe) -> tuple[Diagnosis, Diagnosis]:
    """The diagnosis of one run, from memory and from its folder without the problem."""
    run = ds.fit(made, recipe, folder=folder, progress=False)
    loaded = ds.load_run(folder)
    assert loaded.problem is None
    return ds.diagnose(run), ds.diagnose(loaded)


def test_a_lost_run_is_lost_from_its_folder_too(tmp_path: Path) -> None:
    memory, folder = from_folder(tmp_path / "run", problem(), LOST)
    for found in (memory, folder):
        assert found.lost
        assert not found.healthy
        assert found.verdict.startswith("NOT LEARNING")
        assert "constant guess (2.30" in found.verdict


def test_a_sound_run_is_healthy_from_its_folder_too(tmp_path: Path) -> None:
    for found in from_folder(tmp_path / "run", problem(), GOOD):
        assert found.healthy, str(found)
        assert "constant guess" in found.verdict


def test_what_only_the_problem_could_tell_is_named_with_the_reason(tmp_path: Path) -> None:
    _, found = from_folder(tmp_path / "run", problem(), GOOD)
    reasons = dict(found.not_checked)
    for symptom in ("init-scale", "vanishing-gradient", "summed-objective"):
        assert "load_run(folder, problem=...)" in reasons[symptom]
    cleared = {name for name, _ in found.cleared}
    assert {"non-finite-data", "unscaled-inputs", "output-activation"} <= cleared
    assert cleared | set(reasons) | set(found.symptoms) == set(registry())


def test_a_folder_whose_task_is_found_again_is_judged_in_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    from downslope.training.tasks import load_task

    task = load_task("digits")
    ds.fit(task.problem, task.recipe.edit(epochs=5), folder="run", progress=False)
    found = ds.diagnose(ds.load_run("run"))
    assert not any("problem=" in reason for _, reason in found.not_checked)
    assert found.healthy


def test_the_constant_of_classes_is_their_entropy(tmp_path: Path) -> None:
    y = torch.cat([torch.zeros(300), torch.ones(150), torch.full((50,), 2.0)]).long()
    train = (torch.randn(500, 64, generator=torch.Generator().manual_seed(0)), y)
    run = ds.fit(problem(train=train, valid=None), GOOD.edit(epochs=1), folder=tmp_path / "r", progress=False)
    share = np.array([0.6, 0.3, 0.1])
    # Seven classes never occur: no constant reaches the entropy, but it comes as close as one likes.
    assert run.facts["constant"]["loss"] == pytest.approx(-(share * np.log(share)).sum(), abs=1e-3)
    assert run.facts["constant"]["metric"] == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("objective", "best"),
    [("squared_error", lambda y: y.var()), ("absolute_error", lambda y: np.abs(y - np.median(y)).mean())],
)
def test_the_constant_of_numbers_is_their_mean_or_median(tmp_path: Path, objective: str, best: Any) -> None:
    y = np.random.default_rng(0).gamma(2.0, 3.0, size=401)
    made = ds.Problem(
        model=lambda: nn.Linear(3, 1), objective=objective, train=(np.ones((401, 3), np.float32), y[:, None])
    )
    run = ds.fit(made, ds.Recipe(lr=1e-3, epochs=1), folder=tmp_path / "run", progress=False)
    assert ds.load_run(tmp_path / "run").facts["constant"]["loss"] == pytest.approx(float(best(y)), rel=1e-3)
    assert run.facts["data"]["target"]["std"] == pytest.approx(y.std(), rel=1e-5)


def test_the_constant_of_yes_or_no_is_the_entropy_of_its_share(tmp_path: Path) -> None:
    y = (torch.arange(400) % 5 == 0).float()
    train = (torch.randn(400, 3), y[:, None])
    made = ds.Problem(model=lambda: nn.Linear(3, 1), objective=nn.BCEWithLogitsLoss(), train=train)
    run = ds.fit(made, ds.Recipe(lr=1e-3, epochs=1), folder=tmp_path / "run", progress=False)
    wanted = -(0.2 * math.log(0.2) + 0.8 * math.log(0.8))
    assert run.facts["constant"]["loss"] == pytest.approx(wanted, rel=1e-5)


def test_features_are_recorded_as_the_first_layer_sees_them(tmp_path: Path) -> None:
    x = TABLE.train[0].double().numpy() * 100.0
    made = problem(train=(TABLE.train[0] * 100.0, TABLE.train[1]))
    run = ds.fit(made, GOOD.edit(epochs=1), folder=tmp_path / "run", progress=False)
    assert run.facts["features"]["max_rms"] == pytest.approx(np.sqrt((x**2).mean(0)).max(), rel=1e-5)


def test_a_sum_over_the_batch_has_no_constant_recorded_and_says_why(tmp_path: Path) -> None:
    made = problem(objective=nn.CrossEntropyLoss(reduction="sum"))
    memory, folder = from_folder(tmp_path / "run", made, GOOD)
    assert "sum over a batch" in ds.load_run(tmp_path / "run").facts["not_measured"]["constant"]
    assert memory.run.facts["constant"]["loss"] == pytest.approx(64 * math.log(10), rel=0.01)
    assert not folder.lost


def test_a_stream_is_not_read_for_facts(tmp_path: Path) -> None:
    class Counted(torch.utils.data.IterableDataset[Any]):
        read = 0

        def __iter__(self) -> Any:
            for x, y in zip(*TABLE.train, strict=True):
                type(self).read += 1
                yield x, y

    made = problem(train=Counted(), valid=None)
    with_facts = ds.fit(made, ds.Recipe(steps=3), folder=tmp_path / "run", progress=False)
    read, Counted.read = Counted.read, 0
    ds.fit(made, ds.Recipe(steps=3), folder=False, progress=False)
    assert read == Counted.read
    assert with_facts.facts["output"]["expects"] == "logits"
    assert "stream" in with_facts.facts["not_measured"]["constant"]


def test_facts_change_no_bit_of_a_run_and_call_no_objective_of_the_users(tmp_path: Path) -> None:
    class Counting(nn.Module):
        calls = 0

        def forward(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            return nn.functional.cross_entropy(output, target)

    runs, calls = [], []
    for folder in (tmp_path / "run", False):
        objective = Counting()
        made = problem(model=lambda: nn.Sequential(mlp(), nn.Dropout(0.3)), objective=objective)
        runs.append(ds.fit(made, GOOD.edit(epochs=2), folder=folder, progress=False))
        calls.append(objective.calls)
    assert calls[0] == calls[1]
    states = [run.state("last") for run in runs]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_a_maximised_objective_is_judged_the_right_way_up_from_its_folder(tmp_path: Path) -> None:
    made = problem(objective=lambda o, t: -nn.functional.cross_entropy(o, t), maximize=True)
    memory, folder = from_folder(tmp_path / "good", made, GOOD)
    assert memory.healthy
    assert folder.healthy, str(folder)
    _, lost = from_folder(tmp_path / "lost", made, LOST)
    assert not lost.healthy


def test_noisy_targets_that_leave_little_to_learn_are_no_lost_run(tmp_path: Path) -> None:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(600, 5, generator=draw)
    y = 0.3 * x[:, :1] + torch.randn(600, 1, generator=draw)
    made = ds.Problem(
        model=lambda: nn.Linear(5, 1), objective="squared_error", train=(x[:500], y[:500]),
        valid=(x[500:], y[500:]), metric="r2",
    )  # fmt: skip
    for found in from_folder(tmp_path / "run", made, ds.Recipe(optimizer="adam", lr=1e-2, epochs=20)):
        assert found.healthy, str(found)


def test_the_command_line_diagnoses_a_folder_and_trains_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    ds.fit(problem(), LOST, folder="lost", progress=False)
    ds.fit(problem(), GOOD, folder="good", progress=False)
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    assert main(["diagnose", "lost"]) == guard.SICK
    assert "NOT LEARNING" in capsys.readouterr().out
    assert main(["diagnose", "good", "--json"]) == guard.DONE
    assert json.loads(capsys.readouterr().out)["healthy"] is True
    assert before == {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    assert main(["diagnose", "good", "--set", "lr=1"]) == guard.UNUSABLE
    err = capsys.readouterr().err
    assert "--set goes with a task" in err
    assert err.count("\n") == 1


def test_a_run_that_was_killed_is_judged_by_its_history(tmp_path: Path) -> None:
    ds.fit(problem(), GOOD, folder=tmp_path / "run", progress=False)
    head = json.loads((tmp_path / "run" / "run.json").read_text())
    (tmp_path / "run" / "run.json").write_text(json.dumps(head | {"summary": {}, "status": "running"}))
    found = ds.diagnose(ds.load_run(tmp_path / "run"))
    assert found.verdict.startswith("Learning: loss 2.30")


def overfitting() -> ds.Problem:
    """Half of the targets follow from the inputs, the rest can only be learnt by heart."""
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randn(400, 64, generator=draw), torch.randint(0, 10, (400,), generator=draw)
    y = torch.where(x[:, 0] > 0, y, torch.zeros_like(y))
    return problem(train=(x[:120], y[:120]), valid=(x[120:], y[120:]))


def test_overfitting_is_seen_from_a_summary_that_scores_the_last_model(tmp_path: Path) -> None:
    run = ds.fit(overfitting(), ds.Recipe(lr=3e-3, epochs=60), folder=tmp_path / "run", progress=False)
    assert "high-variance" in ds.diagnose(run).symptoms
    head = json.loads((tmp_path / "run" / "run.json").read_text())
    last = {"train_metric": 1.0, "valid_metric": run.history.last("valid_metric"), "best_step": 120}
    last |= {"train_loss": 0.004, "valid_loss": run.history.last("valid_loss")}
    (tmp_path / "run" / "run.json").write_text(json.dumps(head | {"summary": run.summary | last}))
    assert "high-variance" in ds.diagnose(ds.load_run(tmp_path / "run")).symptoms


def test_overfitting_is_not_cleared_where_the_summary_cannot_tell(tmp_path: Path) -> None:
    memory, folder = from_folder(tmp_path / "best", overfitting(), ds.Recipe(lr=3e-3, epochs=60))
    assert memory.run.summary["best_step"] < 120
    assert "high-variance" in memory.symptoms
    assert "last step was not scored" in dict(folder.not_checked)["high-variance"]
    run = ds.fit(problem(metric=None), GOOD.edit(epochs=2), folder=tmp_path / "loss", progress=False)
    assert run.summary["best_step"] == run.summary["steps"]
    found = ds.diagnose(ds.load_run(tmp_path / "loss"))
    assert "spread of the losses" in dict(found.not_checked)["high-variance"]
