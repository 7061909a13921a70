"""Data files on the command line: what is wrong with one is told by its line and column, and the status."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from downslope.cli import guard
from downslope.cli.main import main


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DOWNSLOPE_CACHE", str(tmp_path / "cache"))
    rows = [f"{i % 9}.5,{'' if i == 150 else i / 10},{i % 2}" for i in range(200)]
    Path("wine.csv").write_text("acid,alcohol,quality\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return tmp_path


def test_fit_refuses_a_gap_by_line_and_column(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "wine.csv", "--target", "quality"]) == guard.UNUSABLE
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "wine.csv line 152, column 'alcohol': nan" in err
    assert not Path("runs").exists()


def test_diagnose_finds_a_gap_by_line_and_column(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diagnose", "wine.csv", "--target", "quality", "--json"]) == guard.SICK
    found = json.loads(capsys.readouterr().out)["findings"][0]
    assert found["symptom"] == "non-finite-data"
    assert "wine.csv line 152, column 'alcohol': nan" in found["message"]
    assert any("line 152, column 'alcohol'" in str(each) for each in found["remedies"])


@pytest.mark.parametrize(("value", "said"), [("5", "5"), ("3.5", "3.5"), ("yes", "'yes'")])
def test_a_target_of_one_value_is_refused_with_the_file_and_the_value(
    value: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("flat.csv").write_text("x,y\n" + "".join(f"{i},{value}\n" for i in range(20)), encoding="utf-8")
    assert main(["fit", "flat.csv", "--target", "y"]) == guard.UNUSABLE
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert f"flat.csv: its target holds one value only, {said}: there" in err


@pytest.mark.parametrize("verb", [["fit"], ["solve"]])
def test_a_real_target_of_one_value_is_refused(verb: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    Path("flat.csv").write_text("x,y\n" + "".join(f"{i},3.5\n" for i in range(20)), encoding="utf-8")
    assert main([verb[0], "flat.csv", "--target", "y", *verb[1:]]) == guard.UNUSABLE
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "its target holds one value only, 3.5" in err


def test_what_is_filled_in_is_not_said_to_be_kept(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "wine.csv", "--set", "missing=mean", "--set", "epochs=1"]) == 0
    out, err = capsys.readouterr()
    assert "missing values are filled in by the mean of their column in training: 'alcohol' 1" in out + err
    assert "kept as NaN" not in out + err


@pytest.mark.parametrize("label", [0, 1])
def test_images_of_one_class_are_refused_with_the_folder(
    label: int, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("pair").mkdir()
    for name, axes, values in (("images-idx3", (9, 4, 4), range(144)), ("labels-idx1", (9,), [label] * 9)):
        head = bytes([0, 0, 8, len(axes)]) + b"".join(n.to_bytes(4, "big") for n in axes)
        Path("pair", f"train-{name}-ubyte").write_bytes(head + bytes(values))
    assert main(["fit", "pair"]) == guard.UNUSABLE
    assert f"pair: its target holds one value only, {label}: there" in capsys.readouterr().err
