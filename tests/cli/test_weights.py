"""Weights on the command line: taken, told, refused in one line with status 2."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from downslope.cli import guard
from downslope.cli.main import main


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DOWNSLOPE_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("way", [["--weights", "first"], ["--set", "weights=first"]])
def test_a_second_run_starts_from_the_first(way: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "wine", "--folder", "first", "--set", "epochs=3", "--quiet"]) == guard.DONE
    capsys.readouterr()
    assert main(["fit", "wine", *way, "--folder", "second", "--set", "epochs=3"]) == guard.DONE
    out, err = capsys.readouterr()
    assert "weights first: 8 of 8 tensors, 100 % of the parameters" in err
    assert "--set weights=first" in out  # the next command starts there too
    head = json.loads(Path("second/run.json").read_text(encoding="utf-8"))
    assert head["problem"]["weights"]["path"] == str(Path("first").resolve())


class Trap:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("touch executed",)


def test_a_pickle_with_code_is_refused_and_never_executed(capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"w": Trap()}, "evil.pt")
    assert main(["fit", "wine", "--weights", "evil.pt", "--folder", "run"]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "refused, it holds code" in said
    assert not Path("executed").exists()
    assert not Path("run").exists()


def test_a_checkpoint_of_another_model_is_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(torch.nn.Conv2d(3, 4, 3).state_dict(), "other.pt")
    assert main(["fit", "wine", "--weights", "other.pt", "--quiet"]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert "of another model, no name fits" in said[-1]
