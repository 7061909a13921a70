"""``downslope range`` and ``downslope batches``: the answer, JSON, exit status, and what cannot be used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from downslope.cli.main import main

TASK = """
import downslope as ds
import torch

x = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))

def problem():
    return ds.Problem(model="linear", objective="squared_error", train=(x, {target}))

def recipe():
    return ds.Recipe(optimizer="sgd", batch_size=20, epochs=2)
"""


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "task.py"
    path.write_text(TASK.format(target="x.sum(1)"), encoding="utf-8")
    return path


def test_a_range_is_printed_with_what_to_do_next(task: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["range", str(task), "--steps", "16", "--seeds", "2", "--quiet"]) == 0
    out = capsys.readouterr().out
    assert "learning rate " in out
    assert "<- best" in out
    assert f"downslope fit {task} --set lr=" in out


def test_a_range_as_json_and_as_a_page(task: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["range", str(task), "--steps", "16", "--seeds", "2", "--json", "--report", "r.html"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["verb"] == "range"
    assert found["low"] <= found["suggested"] <= found["high"]
    assert "Learning rates" in Path("r.html").read_text(encoding="utf-8")


def test_a_refused_range_ends_with_one_and_its_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "flat.py"
    path.write_text(TASK.format(target="torch.ones(60)"), encoding="utf-8")
    assert main(["range", str(path), "--quiet"]) == 1
    assert "no learning rate: the target is constant" in capsys.readouterr().out


def test_batches_prints_table_and_limit(task: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["batches", str(task)]) == 0
    out = capsys.readouterr().out
    assert "us an example" in out
    assert "batches up to 60 (all of the data" in out


def test_batches_as_json(task: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["batches", str(task), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["limit"]["size"] == 60
    assert {row["size"] for row in found["rows"]} >= {1, 10, 32}


@pytest.mark.parametrize("words", [["range", "--steps", "2"], ["batches", "--margin", "2"]])
def test_what_cannot_be_is_refused_in_one_line(
    words: list[str], task: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([words[0], str(task), *words[1:]]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
