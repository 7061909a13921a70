"""What is no folder of a run is refused in one line that says what it is, and what was meant."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from downslope.cli import guard
from downslope.cli.main import main


@pytest.mark.parametrize("verb", ["report", "resume"])
@pytest.mark.parametrize(
    ("named", "words"),
    [
        ("task.py", "task.py is a file: {} takes the folder of a run; downslope fit task.py makes one"),
        ("notes.md", "notes.md is a file: {} takes the folder of a run"),
        ("runs/b/run.json", "runs/b/run.json is a file in the folder of a run: give {} the folder"),
        ("task.py/run", "task.py/run: no run there (there is no such folder)"),
        ("empty", "empty: no run there (run.json is missing)"),
        ("runs", "runs: no run there, but 2 in the folders below it; the newest is runs/b"),
    ],
)
def test_it_is_told_in_one_line(
    verb: str, named: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    for each in ("task.py", "notes.md"):
        Path(each).write_text("", encoding="utf-8")
    Path("empty").mkdir()
    for each in ("a", "b"):
        Path("runs", each).mkdir(parents=True)
        Path("runs", each, "run.json").write_text("{}", encoding="utf-8")
    os.utime("runs/a/run.json", (1, 1))
    assert main([verb, named]) == guard.UNUSABLE
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"downslope: {words.format(verb)}\n"
