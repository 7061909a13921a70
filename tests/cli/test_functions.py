"""``downslope survey --function`` and ``--slice``: where each optimizer ended, and the picture."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import downslope as ds
from downslope.cli.main import main
from downslope.core.errors import InputError
from downslope.terrain.paths.paths import Paths

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
        (["--function", "beale", "--optimizers", "gd,adma"], "did you mean 'adam'"),
        (["--function", "beale", "--lr", "gd=fast"], "name=number such as adam=0.1"),
        (["--function", "beale", "--lr", "-1"], "must be a number above 0"),
        (["--function", "beale", "--lr", "0.1", "--lr", "gd=0.1"], "one rate for all, or one by name"),
        (["--function", "beale", "--start", "a,b"], "numbers with commas between"),
        (["--function", "beale", "--start", "1"], "takes 2 finite coordinates"),
        (["--function", "beale", "--output", "x.gif"], "must end in .html"),
        (["--function", "beale", "--budget", "1m"], "--budget goes with a task"),
        (["task.py", "--start", "1,2"], "go with --function NAME"),
        (["task.py", "--output", "x.png"], "--slice N or of --function"),
        (["missing.py", "--slice", "3", "--output", "x.gif"], "must end in .html"),
        (["missing.py", "--slice", "3", "--output", "file/x.html"], "x.html"),
        (["missing.py", "--report", "file/y.html"], "y.html"),
    ],
)
def test_what_cannot_be_used_is_told_in_one_line(words, said, capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    assert main(["survey", *words]) == 2
    told = capsys.readouterr().err.strip()
    assert said in told
    assert "\n" not in told.splitlines()[-1]


def test_what_is_left_out_is_usual_and_both_files_are_written(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["survey", "--function", "bowl", "--steps", "7", "--lr", "0.05", "--json"]
    assert main([*words, "--output", "a.json", "--report", "b.html"]) == 0
    told = json.loads(capsys.readouterr().out)["paths"]
    assert [(each["optimizer"], each["steps"], each["settings"]["lr"]) for each in told] == [
        ("gd", 7, 0.05), ("momentum", 7, 0.05), ("adam", 7, 0.05),
    ]  # fmt: skip
    assert json.loads(Path("a.json").read_text())["paths"][0]["steps"] == 7
    assert "gd, lr 0.05" in Path("b.html").read_text()


def test_a_place_that_cannot_be_written_is_told_before_the_walk_and_a_full_disk_after_it(
    tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    words = ["survey", "--function", "bowl", "--steps", "3", "--lr", "0.05", "--quiet"]
    assert main([*words, "--output", "file/a.json"]) == 2
    out, err = capsys.readouterr()
    assert (out, "file" in err) == ("", True)

    def full(*_: object) -> None:
        raise InputError("the disk is full")

    monkeypatch.setattr(Paths, "save", full)
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert "momentum" in out
    assert "the disk is full" in err


def test_a_slice_is_of_the_examples_the_seed_and_the_dtype_that_were_given(
    tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("task.py").write_text(TASK)
    words = ["survey", "task.py", "--seed", "3", "--examples", "10", "--dtype", "float64", "--slice", "3"]
    assert main([*words, "--directions", "gradient", "--json", "--quiet"]) == 0
    told = json.loads(capsys.readouterr().out)
    space: dict = {}
    exec(TASK, space)
    problem = space["problem"]()
    same = {"examples": 10, "dtype": torch.float64, "seed": 3, "progress": False}
    expected = ds.landscape(problem, problem.build(3), directions="gradient", points=3, **same)
    assert told["slice"]["axes"][0]["name"].startswith("downhill")
    assert told["slice"]["values"] == [pytest.approx(row, rel=1e-12) for row in expected.values.tolist()]
    assert told["loss"] == pytest.approx(ds.survey(problem, problem.build(3), **same).loss)


def test_a_run_has_no_trajectory_and_takes_no_settings(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    Path("task.py").write_text(TASK)
    assert main(["fit", "task.py", "--folder", "run", "--quiet"]) == 0
    for more, said in (
        (["--slice", "3", "--directions", "pca"], "a run keeps its last and best weights"),
        (["--set", "lr=0.1"], "--set"),
    ):
        assert main(["survey", "run", "--quiet", *more]) == 2
        assert said in capsys.readouterr().err


def test_ctrl_c_in_the_slice_keeps_it_and_in_the_survey_leaves_it_out(tmp_path, monkeypatch, capsys) -> None:
    from downslope.terrain.slices.heights import Heights
    from downslope.terrain.surveys.survey import _Survey

    monkeypatch.chdir(tmp_path)
    Path("task.py").write_text(TASK)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Heights, "each", interrupt)
        assert main(["survey", "task.py", "--slice", "3", "--quiet"]) == 130
    assert "ended by Ctrl-C: 9 of 9 points" in " ".join(capsys.readouterr().out.split())
    monkeypatch.setattr(_Survey, "_layers", interrupt)
    assert main(["survey", "task.py", "--slice", "3", "--quiet", "--json"]) == 130
    assert "slice" not in json.loads(capsys.readouterr().out)


def test_every_word_of_a_survey_is_handed_on_and_a_report_that_fails_is_told_after_it(
    tmp_path, monkeypatch, capsys
) -> None:
    from downslope.terrain.surveys import survey as verb

    monkeypatch.chdir(tmp_path)
    Path("task.py").write_text(TASK)
    seen, whole = {}, verb.survey

    def noted(problem: object, model: object, **options: object) -> object:
        seen.update(options)
        return whole(problem, model, progress=False)

    monkeypatch.setattr(verb, "survey", noted)

    def full(*_: object) -> None:
        raise InputError("the disk is full")

    monkeypatch.setattr("downslope.cli.outcome.save_report", full)
    words = ["survey", "task.py", "--budget", "90s", "--density", "--examples", "all", "--eigenvalues", "2"]
    assert main([*words, "--seed", "4", "--report", "a.html", "--quiet"]) == 2
    out, err = capsys.readouterr()
    assert "SLOPE" in out
    assert "the disk is full" in err
    kept = {key: seen[key] for key in ("seconds", "density", "examples", "eigenvalues", "seed")}
    assert kept == {"seconds": 90.0, "density": True, "examples": "all", "eigenvalues": 2, "seed": 4}
    words = ["survey", "task.py", "--slice", "3", "--output", "s.json", "--report", "a.html", "--quiet"]
    assert main(words) == 2
    assert not Path("s.json").exists()
