"""A run's folder that is half written, cut short or damaged: one line, or the last good state."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import downslope as ds
from downslope.core.errors import DownslopeError, RunFolderError
from downslope.training import checkpoint
from downslope.training.fit import resume
from tests.training.problems import after_steps, classification, same_history, same_state

HOW = ds.Recipe(optimizer="adam", lr=0.01, batch_size=16, epochs=6, seed=1)


def noisy(**changes: Any) -> ds.Problem:
    return classification(arguments={"dropout": 0.5}, **changes)


@pytest.fixture
def stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of 24 steps that was interrupted after 10, with a checkpoint at every step."""
    monkeypatch.setattr(checkpoint.SaveTimes, "due", lambda _: True)
    taken: list[int] = []

    def press(model: Any) -> None:
        taken.append(1)
        if len(taken) == 10:
            signal.raise_signal(signal.SIGINT)

    with after_steps(press):
        ds.fit(noisy(), HOW, folder=tmp_path / "run", progress=False, observe=0.0)
    return tmp_path / "run"


@pytest.fixture
def whole() -> ds.Run:
    return ds.fit(noisy(), HOW, folder=False, progress=False, observe=0.0)


def check(again: ds.Run, whole: ds.Run) -> None:
    assert again.status == "done"
    assert same_history(again, whole)
    for which in ("last", "best"):
        assert same_state(again.model(which).state_dict(), whole.model(which).state_dict())  # type: ignore[arg-type]


def cut(path: Path, share: float = 0.5) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


DAMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "resume state cut in half": (lambda r: cut(r / "checkpoints/resume.safetensors"), "missing or broken"),
    "resume state empty": (lambda r: cut(r / "checkpoints/resume.safetensors", 0.0), "missing or broken"),
    "head cut in half": (lambda r: cut(r / "run.json"), "run.json cannot be read"),
    "head empty": (lambda r: cut(r / "run.json", 0.0), "run.json cannot be read"),
    "head missing": (lambda r: (r / "run.json").unlink(), "no run there (run.json is missing)"),
    "recipe cut in a word": (lambda r: (r / "recipe.toml").write_text('optimizer = "ad'), "is not TOML"),
    "recipe missing": (lambda r: (r / "recipe.toml").unlink(), "its recipe is missing"),
    "history broken inside": (
        lambda r: (r / "history.jsonl").write_text('{"kind"\n' + (r / "history.jsonl").read_text()),
        "line 1 is broken"),
    "history behind the resume state": (
        lambda r: (r / "history.jsonl").write_text((r / "history.jsonl").read_text().splitlines()[0] + "\n"),
        "history.jsonl ends before step 10 of the resume state"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_told_in_one_line_and_nothing_is_overwritten(damage: str, stopped: Path) -> None:
    spoil, part = DAMAGES[damage]
    spoil(stopped)
    before = {each: each.read_bytes() for each in stopped.rglob("*") if each.is_file()}
    with pytest.raises(RunFolderError) as told:
        resume(stopped, noisy(), progress=False)
    assert part in str(told.value)
    assert "\n" not in str(told.value)
    for each, data in before.items():
        if each.suffix == ".safetensors":
            assert each.read_bytes() == data


def test_what_a_kill_leaves_half_written_does_not_matter(stopped: Path, whole: ds.Run) -> None:
    for name in ("run.json", "recipe.toml", "checkpoints/last.safetensors", "checkpoints/resume.safetensors"):
        (stopped / f"{name}.partial").write_bytes(b"half")
    with (stopped / "history.jsonl").open("a") as lines:
        lines.write('{"kind":"columns","steps":[11')
    check(resume(stopped, noisy(), progress=False), whole)
    check(ds.load_run(stopped, noisy()), whole)


@pytest.mark.parametrize("name", ["best.safetensors", "last.safetensors"])
def test_broken_weights_beside_a_good_resume_state(name: str, stopped: Path, whole: ds.Run) -> None:
    cut(stopped / "checkpoints" / name)
    with pytest.raises(RunFolderError, match=rf"^[^\n]*{name} is missing or broken[^\n]*$"):
        ds.load_run(stopped, noisy()).model(name.partition(".")[0])  # type: ignore[arg-type]
    if name == "last.safetensors":  # what resumes does not need it
        check(resume(stopped, noisy(), progress=False), whole)


def test_a_folder_made_but_never_written_is_no_run_and_can_be_used(tmp_path: Path, whole: ds.Run) -> None:
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "history.jsonl").touch()
    with pytest.raises(RunFolderError, match="no run there"):
        ds.load_run(tmp_path / "run")
    with pytest.raises(RunFolderError, match="no run there"):
        resume(tmp_path / "run", noisy(), progress=False)
    check(ds.fit(noisy(), HOW, folder=tmp_path / "run", progress=False, observe=0.0), whole)


def test_a_kill_while_a_resumed_run_writes_its_recipe_leaves_the_former(
    stopped: Path, whole: ds.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = stopped.with_name("copy")
    write = Path.write_text

    def killed(self: Path, text: str, *args: Any, **more: Any) -> int:
        if "recipe.toml" in self.name:
            write(self, text[:9], *args, **more)
            shutil.copytree(stopped, copy)  # the folder as a kill at this moment leaves it
        return write(self, text, *args, **more)

    monkeypatch.setattr(Path, "write_text", killed)
    resume(stopped, noisy(), progress=False)
    monkeypatch.setattr(Path, "write_text", write)
    check(resume(copy, noisy(), progress=False), whole)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_is_told(stopped: Path) -> None:
    stopped.chmod(0o500)
    try:
        with pytest.raises(DownslopeError) as told:
            resume(stopped, noisy(), progress=False)
    finally:
        stopped.chmod(0o700)
    assert "\n" not in str(told.value)


def test_the_head_says_running_until_the_end(tmp_path: Path) -> None:
    seen: list[Any] = []

    def look(state: Any) -> None:
        seen.append(json.loads((tmp_path / "run" / "run.json").read_text())["status"])

    ds.fit(noisy(), HOW, folder=tmp_path / "run", progress=False, on_probe=look)
    assert set(seen) == {"running"}
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "done"
