"""``downslope predict``: a table on standard output, JSON for machines, one line for what cannot be used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from downslope.cli.main import main


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Path:
    monkeypatch.chdir(tmp_path)
    rows = "".join(f"{i % 7 - 3}.5,{'yes' if i % 7 > 3 else 'no'}\n" for i in range(70))
    Path("train.csv").write_text("a,answer\n" + rows, encoding="utf-8")
    assert main(["fit", "train.csv", "--set", "epochs=20", "--set", "lr=0.05", "--folder", "run"]) == 0
    Path("new.csv").write_text("a\n-2.5\n3.5\n", encoding="utf-8")
    capsys.readouterr()
    return Path("run")


def test_a_table_is_printed(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "run", "new.csv"]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header == "line,prediction,probability"
    assert [row.split(",")[:2] for row in rows] == [["2", "no"], ["3", "yes"]]


def test_a_table_is_written_and_json_has_every_class(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "run", "new.csv", "-o", "out.csv", "--json"]) == 0
    assert Path("out.csv").read_text().startswith("line,prediction,probability\n2,no,")
    document = json.loads(capsys.readouterr().out)
    assert document["values"] == ["no", "yes"]
    assert document["classes"] == ["no", "yes"]
    assert all(abs(sum(row) - 1) < 1e-6 for row in document["probabilities"])


@pytest.mark.parametrize("words", [["new.csv", "new.csv"], ["run", "nowhere.csv"], ["nowhere", "new.csv"]])
def test_what_cannot_be_used_is_told_in_one_line(
    run: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert main(["predict", *words]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1


def test_gaps_are_filled_in_where_it_is_asked_for(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = Path("train.csv").read_text().replace("0.5,no", ",no", 3)
    Path("gaps.csv").write_text(text, encoding="utf-8")
    assert main(["fit", "gaps.csv", "--set", "epochs=2"]) == 2
    assert "--set missing=mean" in capsys.readouterr().err
    assert main(["fit", "gaps.csv", "--set", "epochs=2", "--set", "missing=median"]) == 2
    assert "missing=median: must be mean" in capsys.readouterr().err
    assert main(["fit", "gaps.csv", "--set", "epochs=2", "--set", "missing=mean", "--folder", "filled"]) == 0
    Path("hole.csv").write_text("a\n\n1.5\nnan\n", encoding="utf-8")
    assert main(["predict", "filled", "hole.csv"]) == 0


def test_a_run_on_text_continues_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("book.txt").write_text("to be or not to be, that is the question\n" * 30, encoding="utf-8")
    small = ["--set", "model.width=16", "--set", "model.depth=1", "--set", "steps=5"]
    assert main(["fit", "book.txt", *small, "--folder", "run"]) == 0
    said = capsys.readouterr()
    assert "each character is a token" in said.err
    assert "model gpt" in said.err
    assert main(["predict", "run", "to be", "--count", "12"]) == 0
    written = capsys.readouterr().out
    assert written.startswith("to be")
    assert len(written) == 5 + 12 + 1
