"""What a built row says to run is run."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from downslope.cli.main import main
from downslope.reporting import concepts

BUILT = [row for row in concepts.load() if row.built]


@pytest.mark.parametrize("row", BUILT, ids=lambda row: row.name)
def test_the_command_of_a_built_row_runs_and_says_something(
    row: concepts.Concept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    if row.command.startswith("downslope "):
        assert main(shlex.split(row.command)[1:]) in (0, 1)
    else:
        exec(compile(row.command, f"command of {row.name}", "exec"), {"__name__": "__main__"})
        assert not (tmp_path / "runs").exists()
    told = capsys.readouterr()
    assert told.out.strip()
    assert row.command.startswith("downslope ") or "steps/s" not in told.err  # no bar between its lines
