"""``downslope learning-curve``: verdict and table, as text, as JSON and on a page; bad input in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from downslope.cli.main import main


def test_the_verdict_and_the_table_are_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    page = tmp_path / "curve.html"
    words = ["learning-curve", "wine", "--set", "epochs=3", "--seeds", "2", "--quiet", "--report", str(page)]
    assert main(words) == 0
    told = capsys.readouterr().out
    assert "valid error" in told
    assert "would go from" in told
    assert "larger" in told
    assert "Would more data help?" in page.read_text(encoding="utf-8")


def test_json_holds_the_curve_its_law_and_every_group(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["learning-curve", "wine", "--set", "epochs=2", "--fractions", "0.3,0.6,1", "--seeds", "2"]
    assert main([*words, "--quiet", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["verb"] == "learning-curve"
    assert len(found["sizes"]) == len(found["valid"]) == 3
    assert {"verdict", "law"} <= found.keys()
    assert found["bias_variance"]["rows"][0]["group"] == "all"


@pytest.mark.parametrize("fractions", ["half", "0.5", "0.5,2"])
def test_fractions_that_are_none_are_told(fractions: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["learning-curve", "wine", "--fractions", fractions, "--quiet"]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1


def test_settings_of_the_objective_go_with_set(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    words = ["fit", "wine", "--set", "epochs=1", "--set", "objective.l2=0.01", "--folder", str(folder)]
    assert main([*words, "--set", "objective.label_smoothing=0.1", "--quiet"]) == 0
    assert " +- " in capsys.readouterr().out
    kept = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert kept["problem"]["objective"] == "penalised(cross_entropy(label_smoothing=0.1), l2=0.01)"
    assert main(["fit", "wine", "--set", "objective.label_smoothin=0.1", "--quiet"]) == 2
    assert "label_smoothing" in capsys.readouterr().err
