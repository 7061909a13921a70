"""``downslope escape``: names, tasks and runs; what is printed, kept and refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from downslope.cli.main import main

TASK = """
import torch, downslope as ds

def problem():
    x = torch.linspace(-1, 1, 20)[:, None]
    return ds.Problem(model=torch.nn.Linear(1, 1), objective="squared_error", train=(x, 2 * x))
"""
FEW = ["--steps", "30", "--seeds", "3", "--quiet"]


def test_a_function_is_told_as_a_table_and_as_a_document(capsys):
    assert main(["escape", "saddle", "--optimizers", "gd,adam", "--spread", "0", *FEW]) == 0
    told = capsys.readouterr().out
    assert "0/3" in told
    words = ["escape", "x_cos_pi_x", "--optimizers", "sgd", "--noise", "9", "--batch-size", "1,full", *FEW]
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["verb"], found["kind"]) == ("escape", "minimum")
    assert [each["batch_size"] for each in found["trials"]] == [1, 1024]


def test_a_task_and_a_run_stand_where_their_model_does(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("task.py").write_text(TASK)
    assert main(["escape", "task.py", "--optimizers", "gd", "--batch-size", "full", *FEW]) == 0
    assert (
        main(["fit", "task.py", "--set", "steps=200", "--set", "lr=0.5", "--set", "optimizer=gd", "--quiet"])
        == 0
    )
    kept = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("kept"))
    assert main(["escape", kept.split()[1], "--optimizers", "gd", "--json", *FEW]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["kind"] == "minimum"
    assert found["trials"][0]["escaped"] == 0


def test_a_budget_ends_it_and_is_told(capsys):
    words = ["escape", "saddle", "--optimizers", "gd,adam", "--spread", "0", "--noise", "0", "--quiet"]
    assert main([*words, "--steps", "100000000", "--budget", "0.2s"]) == 0
    assert "note: the budget left out adam" in " ".join(capsys.readouterr().out.split())


def test_report_and_animation_are_written(tmp_path, capsys):
    words = ["escape", "double_well", "--point", "saddle", "--optimizers", "adam", *FEW]
    page, film = tmp_path / "escape.html", tmp_path / "escape.gif"
    pytest.importorskip("matplotlib")
    assert main([*words, "--report", str(page), "--animate", str(film)]) == 0
    assert "Who leaves" in page.read_text()
    assert film.read_bytes().startswith(b"GIF89a")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["sadle"], "did you mean 'saddle'"),
        (["saddle", "--lr", "fast"], "--lr fast"),
        (["saddle", "--batch-size", "1.5"], "--batch-size 1.5"),
        (["saddle", "--point", "0"], "not critical at"),
        (["saddle", "--optimizers", "adma"], "did you mean 'adam'"),
        (["saddle", "--seeds", "0"], "seeds is empty"),
        (["saddle", "--batch-size", ","], "--batch-size ,: must be a number"),
        (["saddle", "--budget", "9 steps"], "--budget 9 steps: must be a time here"),
    ],
)
def test_what_cannot_be_used_ends_with_one_line(words, said, capsys):
    assert main(["escape", *words, "--quiet"]) == 2
    told = capsys.readouterr().err.strip()
    assert said in told
    assert "\n" not in told


def test_an_animation_alone_keeps_its_paths_and_a_place_that_cannot_be_written_is_told_first(
    tmp_path, capsys, monkeypatch
):
    from downslope.terrain.escapes import escape as verb

    words = ["escape", "saddle", "--optimizers", "gd", *FEW]
    film = tmp_path / "a.html"
    assert main([*words, "--animate", str(film)]) == 0
    assert "Who leaves" in film.read_text()
    capsys.readouterr()
    assert main([*words, "--report", str(film / "b.html")]) == 2
    assert capsys.readouterr().out == ""
    found = verb.escape("saddle", "gd", steps=2, seeds=1)
    monkeypatch.setattr(verb, "escape", lambda *_, **__: replace(found, interrupted=True))
    assert main(words) == 130


def test_a_file_that_no_animation_is_written_to_is_refused_before_the_work(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["escape", "saddle", "--animate", str(tmp_path / "x.mp4"), "--seeds", "2"]) == 2
    told = capfd.readouterr().err
    assert "must be .html or .gif" in told
    assert "methods" not in told
