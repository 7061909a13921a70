"""What a kill, a full disk or a cut file leaves of a run: the last good state, and the truth about it."""

from __future__ import annotations

import itertools
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import downslope as ds
from downslope.core.errors import InputError, RunFolderError
from downslope.core.history import History, Probes, replay, retold
from downslope.training import checkpoint
from downslope.training.fit import resume
from tests.training.problems import classification, regression, same_history, same_state

HOW = ds.Recipe(optimizer="adam", lr=0.01, batch_size=16, epochs=6, seed=1)
ROOT = Path(__file__).parents[2]

KILLED = """
import os, signal, sys, time
import torch
torch.set_num_threads(1)
import downslope as ds
from tests.training.problems import after_steps, classification
taken = []
def slowly(model):
    time.sleep(0.05)
    taken.append(1)
    if len(taken) == 40:
        os.kill(os.getpid(), signal.SIGKILL)
recipe = ds.Recipe(optimizer="adam", lr=0.01, batch_size=16, epochs=60, seed=1)
with after_steps(slowly):
    ds.fit(classification(), recipe, folder=sys.argv[1], progress=False)
"""


def killed(folder: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, str(folder)], cwd=ROOT, check=False, capture_output=True, timeout=120,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()


def test_a_run_killed_in_its_first_seconds_has_weights_and_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    killed(tmp_path / "run")
    left = ds.load_run(tmp_path / "run", classification())
    assert left.status == "interrupted"
    assert left.facts["killed"]["weights"] == ["best", "last"]
    left.model("last")
    assert "The run was killed at step" in ds.diagnose(left).notes[-1]
    steps = ds.load_run(tmp_path / "run").history.series("train_loss").steps
    again = resume(tmp_path / "run", classification(), progress=False)
    assert "starts again" not in caplog.text
    assert again.summary["steps"] == 60 * 4
    assert again.summary["seconds"] > 0.04 * steps[0]
    assert ds.load_run(tmp_path / "run").status == "done"


def test_seconds_add_up_over_a_kill(tmp_path: Path) -> None:
    killed(tmp_path / "run")
    state = checkpoint.load_tensors(tmp_path / "run" / "checkpoints" / checkpoint.NAME)[1]
    before = state["place"]["seconds"]
    assert before > 0.04 * state["place"]["step"]  # each of its steps slept for 0.05 s
    again = resume(tmp_path / "run", classification(), progress=False)
    assert again.summary["seconds"] > before


def test_waiting_doubles_up_to_its_limit_and_grows_with_the_price(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: clock[0])
    times, saved = checkpoint.SaveTimes(), list[float]()
    while clock[0] < 300:
        clock[0] += 0.5
        if times.due():
            saved.append(clock[0] - 100)
            times.saved(0.001)
    gaps = [b - a for a, b in itertools.pairwise(saved)]
    assert saved[0] == 1.5
    assert gaps[:4] == [2.5, 4.5, 8.5, 16.5]
    assert set(gaps[4:]) == {30.5}
    times.saved(6.0)  # seconds to write: 2 % of the time means every 300 s
    clock[0] += 299
    assert not times.due()
    clock[0] += 2
    assert times.due()


def test_a_run_that_goes_on_is_told_from_one_that_was_killed(tmp_path: Path) -> None:
    seen: list[str] = []

    def look(state: Any) -> None:
        if state.step:
            seen.append(ds.load_run(tmp_path / "run").status)
            with pytest.raises(RunFolderError, match="still going on"):
                resume(tmp_path / "run", classification(), progress=False)

    ds.fit(classification(), HOW, folder=tmp_path / "run", progress=False, on_probe=look)
    assert set(seen) == {"running"}


@pytest.mark.parametrize("folder", [None, False])
def test_to_resume_needs_a_folder(folder: Any) -> None:
    with pytest.raises(InputError, match="give the folder of the run to go on with"):
        ds.fit(classification(), HOW, folder=folder, resume=True, progress=False)


def test_a_folder_without_a_run_is_not_resumed(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="no run there"):
        ds.fit(classification(), HOW, folder=tmp_path / "none", resume=True, progress=False)
    assert not (tmp_path / "none").exists()


def test_to_begin_again_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    killed(tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    (tmp_path / "run" / "checkpoints").mkdir()
    with caplog.at_level(logging.WARNING, "downslope"):
        resume(tmp_path / "run", classification(), progress=False)
    assert "starts again at step 0" in caplog.text


def cut(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "history cut": lambda r: cut(r / "history.jsonl"),
    "history deleted": lambda r: (r / "history.jsonl").unlink(),
    "last cut": lambda r: cut(r / "checkpoints/last.safetensors"),
    "best cut": lambda r: cut(r / "checkpoints/best.safetensors"),
    "weights deleted": lambda r: shutil.rmtree(r / "checkpoints"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_an_ended_run_that_was_damaged_is_not_taken_for_a_whole_one(
    damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ds.fit(classification(), HOW, folder=tmp_path / "run", progress=False)
    DAMAGES[damage](tmp_path / "run")
    run = ds.load_run(tmp_path / "run", classification())
    if damage.startswith("history"):
        assert "of 24 steps: it was cut or deleted" in caplog.text
        run.model()  # the last good state
        with pytest.raises(RunFolderError, match="half a history is no run to judge"):
            ds.diagnose(run)
    else:
        with pytest.raises(RunFolderError, match="missing or broken"):
            resume(tmp_path / "run", classification(), progress=False)
    if damage in ("last cut", "weights deleted"):
        why = ds.diagnose(run).run.facts["not_measured"]["ending"]
        assert "last.safetensors is missing or broken" in why
        assert why.startswith(str(tmp_path))  # the name of the exception's class tells nobody anything


def test_what_is_retold_of_a_run_replays_to_the_same(tmp_path: Path) -> None:
    run = ds.fit(regression(), HOW, folder=tmp_path / "run", progress=False, observe=0.5)
    history, probes, facts = History(), Probes(), dict[str, Any]()
    replay(list(retold(run.history, run.probes, {"a": [1]})), history, probes, facts)
    assert facts == {"a": [1]}
    assert list(history) == list(run.history)
    for name in run.history:
        assert history[name].tobytes() == run.history[name].tobytes()
    for name in run.probes:
        assert probes[name].modules == run.probes[name].modules
        assert probes[name].values.tobytes() == run.probes[name].values.tobytes()


def test_a_disk_that_has_room_again_gets_the_whole_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(checkpoint.SaveTimes, "due", lambda _: True)
    undisturbed = ds.fit(regression(), HOW, folder=False, progress=False, observe=0.0)
    from downslope.core import weights

    real, calls = weights.save_file, {"n": 0}

    def sometimes(*args: Any, **kwargs: Any) -> None:
        calls["n"] += 1
        if 9 < calls["n"] < 30:
            raise OSError(28, "No space left on device")
        real(*args, **kwargs)

    monkeypatch.setattr(weights, "save_file", sometimes)
    run = ds.fit(regression(), HOW, folder=tmp_path / "run", progress=False, observe=0.0)
    assert caplog.text.count("No space left") == 1
    assert caplog.text.count("can be written again") == 1
    assert "unwritten" not in run.facts
    on_disk = ds.load_run(tmp_path / "run", regression())
    assert on_disk.status == "done"
    assert same_history(on_disk, undisturbed)
    assert same_state(on_disk.model().state_dict(), undisturbed.model().state_dict())


def started(folder: Path, **changes: Any) -> ds.Problem:
    """A problem whose run in `folder` ended after 10 of 24 steps."""
    problem = classification()
    begun = ds.fit(problem, HOW.edit(**changes), folder=folder, progress=False, seconds=1e-9)
    assert 0 < begun.summary["steps"] < 24
    return problem


@pytest.mark.parametrize(
    ("change", "said"),
    [({"lr": 0.5}, "lr 0.01 there and 0.5 here"), ({"seed": 9}, "seed 1 there and 9 here"),
     ({"optimizer": "sgd"}, "optimizer 'adam' there and 'sgd' here"),
     ({"eps": 0.1}, "eps 1e-08 there and 0.1 here"),
     ({"maximize": True}, "maximize False there and True here"),
     ({"betas": (0.5, 0.5)}, "betas (0.9, 0.999) there and (0.5, 0.5) here"),
     ({"rounding": "stochastic"}, "rounding 'nearest' there and 'stochastic' here"),
     ({"clip_norm": 1.0}, "clip_norm None there and 1.0 here")],
)  # fmt: skip
def test_another_recipe_is_no_continuation(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    problem = started(tmp_path / "run")
    before = (tmp_path / "run" / "recipe.toml").read_bytes()
    with pytest.raises(RunFolderError, match="holds another run") as told:
        ds.fit(problem, HOW.edit(**change), folder=tmp_path / "run", resume=True, progress=False)
    assert said in str(told.value)
    assert (tmp_path / "run" / "recipe.toml").read_bytes() == before


@pytest.mark.parametrize(
    ("was", "key", "value"),
    [
        ({"optimizer": "lookahead(adam)", "la_steps": 3}, "la_steps", 9),
        ({"optimizer": "lookahead(adam)"}, "la_alpha", 0.9),
        ({"optimizer": "sam(sgd)"}, "rho", 0.9),
        ({"optimizer": "lion", "betas": (0.9, 0.9)}, "betas", None),  # back to the default
        ({"clip_norm": 1.0}, "clip_norm", None),
    ],
)
def test_a_setting_of_another_value_is_no_continuation(was, key: str, value: Any, tmp_path: Path) -> None:
    problem = started(tmp_path / "run", **was)
    recipe = HOW.edit(**was).edit(**{key: value})
    with pytest.raises(RunFolderError, match=f"holds another run .{key} "):
        ds.fit(problem, recipe, folder=tmp_path / "run", resume=True, progress=False)


@pytest.mark.parametrize(
    "same",
    [
        {"betas": (0.9, 0.999)},
        {"betas": [0.9, 0.999], "eps": 1e-8},
        {"optimizer": ds.optim.Adam},
        {"clip_norm": None},
        {"backend": "eager"},
    ],
    ids=["said", "a list", "the class", "None", "by what it is stepped"],
)
def test_the_same_recipe_said_otherwise_goes_on(same: dict[str, Any], tmp_path: Path) -> None:
    problem = started(tmp_path / "run")
    run = ds.fit(problem, HOW.edit(**same), folder=tmp_path / "run", resume=True, progress=False)
    assert run.summary["steps"] == 24


def test_another_objective_is_no_continuation(tmp_path: Path) -> None:
    problem = ds.Problem(model="mlp", objective="squared_error", train=regression().train, valid=None)
    ds.fit(problem, HOW, folder=tmp_path / "run", progress=False, seconds=1e-9)
    with pytest.raises(RunFolderError, match="objective squared_error there and absolute_error here"):
        ds.fit(
            problem.edit(objective="absolute_error"),
            HOW,
            folder=tmp_path / "run",
            resume=True,
            progress=False,
        )


def test_without_a_recipe_that_of_the_run_goes_on_and_a_longer_one_may(tmp_path: Path) -> None:
    problem = started(tmp_path / "run")
    again = ds.fit(problem, folder=tmp_path / "run", resume=True, progress=False)
    assert again.recipe is not None
    assert (again.recipe.lr, again.recipe.seed, again.summary["steps"]) == (0.01, 1, 24)
    longer = ds.fit(problem, HOW.edit(epochs=8), folder=tmp_path / "run", resume=True, progress=False)
    assert longer.summary["steps"] == 32


def test_best_weights_that_are_gone_are_not_replaced_by_others(tmp_path: Path) -> None:
    run = ds.fit(classification(), HOW, folder=tmp_path / "run", progress=False)
    assert run.summary["model"] == "best"
    (tmp_path / "run" / "checkpoints" / "best.safetensors").unlink()
    with pytest.raises(RunFolderError, match=r"best\.safetensors is missing"):
        ds.load_run(tmp_path / "run", classification()).model()


def test_somebodys_own_recipe_in_a_folder_without_a_run_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text("lr = 0.3\n", encoding="utf-8")
    with pytest.raises(RunFolderError, match="is no run: give another folder"):
        ds.fit(classification(), HOW, folder=tmp_path, progress=False)
    assert (tmp_path / "recipe.toml").read_text(encoding="utf-8") == "lr = 0.3\n"


def test_a_folder_that_is_no_path_is_refused() -> None:
    with pytest.raises(InputError, match="folder=True: must be a path"):
        ds.fit(classification(), HOW, folder=True, progress=False)  # type: ignore[arg-type]
