"""The closed loop on the command line: diagnose, repair, fit with what was kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from downslope.cli import guard
from downslope.cli.main import main

TASK = """
import torch
from torch import nn
import downslope as ds

def model():
    return nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 1))

def problem():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(256, 3, generator=g)
    y = x @ torch.tensor([[1.0], [-2.0], [0.5]])
    train, valid = (x[:192], y[:192]), (x[192:], y[192:])
    return ds.Problem(model=model, objective="squared_error", train=train, valid=valid)

def recipe():
    return ds.Recipe(optimizer="sgd", lr=0.05, batch_size=16, epochs=8)
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DOWNSLOPE_CACHE", str(tmp_path / "cache"))
    Path("task.py").write_text(TASK)


def document(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, object]]:
    status = main([*words, "--json", "--quiet"])
    out, err = capsys.readouterr()
    assert err == ""
    return status, json.loads(out)


def test_a_healthy_task_is_diagnosed_with_status_0(capsys: pytest.CaptureFixture[str]) -> None:
    status, found = document(capsys, "diagnose", "task.py", "--folder", "r", "--report", "r.html")
    assert (status, found["verb"], found["healthy"]) == (guard.DONE, "diagnose", True), found
    assert found["run"] == "r"
    assert Path("r/run.json").exists()
    assert "Healthy, nothing to fix" in Path("r.html").read_text()


def test_a_sick_task_is_diagnosed_repaired_and_trained_again(capsys: pytest.CaptureFixture[str]) -> None:
    sick = ["task.py", "--set", "lr=30"]
    status, found = document(capsys, "diagnose", *sick, "--folder", "a")
    assert (status, found["healthy"]) == (guard.SICK, False)
    findings = found["findings"]
    assert isinstance(findings, list)
    assert findings[0]["symptom"] == "learning-rate-too-high"

    status, mended = document(capsys, "repair", *sick, "--folder", "b", "-o", "out/fixed.toml")
    assert (status, mended["fixed"], mended["report"]) == (guard.SICK, "out/fixed.toml", "report.html")
    assert "Proved:" in Path("report.html").read_text()

    status, again = document(capsys, "fit", "task.py", "--recipe", "out/fixed.toml", "--folder", "c")
    summary = again["summary"]
    assert isinstance(summary, dict)
    assert (status, again["status"]) == (guard.DONE, "done")
    assert summary["valid_loss"] == pytest.approx(mended["after"], abs=1.0)
    assert summary["valid_loss"] < 1.0


def test_repairing_a_healthy_task_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["repair", "task.py", "--quiet", "--folder", "r"]) == guard.DONE
    assert capsys.readouterr().out.splitlines()[-2:] == ["kept    r", "next    open report.html"]
    assert not Path("fixed.toml").exists()


def test_a_kept_run_is_reported_with_its_diagnosis(capsys: pytest.CaptureFixture[str]) -> None:
    main(["fit", "task.py", "--set", "lr=30", "--quiet", "--folder", "r"])
    capsys.readouterr()
    assert main(["report", "r", "-o", "r.html"]) == guard.DONE
    assert capsys.readouterr().out == "report  r.html\n"
    assert "What was found" in Path("r.html").read_text()
