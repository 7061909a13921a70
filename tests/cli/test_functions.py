"""``downslope survey --function`` and ``--slice``: where each optimizer ended, and the picture."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from downslope.cli.main import main

TASK = """
import downslope as ds, torch

def problem():
    torch.manual_seed(0)
    x = torch.randn(40, 3)
    return ds.Problem(model="mlp", objective="squared_error", train=(x, x[:, :1] ** 2),
                      arguments={"width": 4, "depth": 1}, name="small")

def recipe():
    return ds.Recipe(lr=0.01, steps=12, batch_size=20)
"""


def test_a_function_is_walked_told_and_drawn(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["survey", "--function", "himmelblau", "--optimizers", "gd,newton", "--steps", "60",
                 "--lr", "gd=0.01", "--start", "1,-3"]) == 0  # fmt: skip
    said = capsys.readouterr().out
    assert "(3.58, -1.85)" in said
    assert said.count("global minimum") == 2
    assert "gd, lr 0.01" in Path("runs/survey-himmelblau.html").read_text()


def test_json_tells_every_path(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["survey", "--function", "x_cos_pi_x", "--optimizers", "gd", "--lr", "0.05", "--json",
                 "--output", "ways.json"]) == 0  # fmt: skip
    told = json.loads(capsys.readouterr().out)
    assert told["paths"][0]["ended"] == "local minimum"
    assert told["report"] == "ways.json"


def test_a_slice_is_drawn_into_the_folder_of_runs_unless_told_otherwise(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("task.py").write_text(TASK)
    assert main(["survey", "task.py", "--slice", "5", "--quiet"]) == 0
    assert Path("runs/survey-task.html").stat().st_size > 10_000
    assert "open runs/survey-task.html" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("directions", ["random", "pca"])
def test_a_task_is_sliced(tmp_path, monkeypatch, capsys, directions: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("task.py").write_text(TASK)
    command = [
        "survey",
        "task.py",
        "--slice",
        "7",
        "--directions",
        directions,
        "--output",
        "s.html",
        "--quiet",
    ]
    assert main(command) == 0
    assert "loss at 7 x 7 points" in " ".join(capsys.readouterr().out.split())
    assert Path("s.html").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--function", "rosenbroc"], "did you mean 'rosenbrock'"),
        (["--function", "beale", "--optimizers", "gd,adan"], "did you mean 'adam'"),
        (["--function", "beale", "--lr", "gd=fast"], "name=number such as adam=0.1"),
        (["--function", "beale", "--lr", "-1"], "must be a number above 0"),
        (["--function", "beale", "--start", "a,b"], "numbers with commas between"),
        (["--function", "beale", "--start", "1"], "takes 2 finite coordinates"),
        (["--function", "beale", "--output", "x.gif"], "must end in .html"),
        (["--function", "beale", "--budget", "1m"], "--budget goes with a task"),
        (["task.py", "--start", "1,2"], "go with --function NAME"),
        (["task.py", "--output", "x.png"], "--slice N or of --function"),
    ],
)
def test_what_cannot_be_used_is_told_in_one_line(words, said, capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["survey", *words]) == 2
    told = capsys.readouterr().err.strip()
    assert said in told
    assert "\n" not in told.splitlines()[-1]
