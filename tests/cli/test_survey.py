from __future__ import annotations

import json
from pathlib import Path

import pytest

import downslope as ds
from downslope.cli.main import main
from downslope.terrain.surveys.survey import _Survey


@pytest.fixture
def task(tmp_path: Path) -> Path:
    file = tmp_path / "task.py"
    file.write_text(
        "import torch, downslope as ds\n"
        "from torch import nn\n"
        "def problem():\n"
        "    x = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))\n"
        "    net = lambda: nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 1))\n"
        "    return ds.Problem(model=net, objective='squared_error', train=(x, x.sum(1, keepdim=True)))\n"
        "def recipe():\n"
        "    return ds.Recipe(optimizer='sgd', lr=0.1, epochs=3)\n",
        encoding="utf-8",
    )
    return file


def test_a_task_is_surveyed_at_its_start_and_the_price_is_told_first(
    task: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["survey", str(task)]) == 0
    out, err = capfd.readouterr()
    head, kind, *rest = out.splitlines()
    assert "at the start" in head
    assert "19 parameters" in head
    assert kind.startswith("SLOPE: the slope could win")
    assert [line for line in rest if line.startswith("layers")]
    assert rest[-1] == f"next    downslope fit {task}"
    assert "survey  19 parameters, about 19 products with the Hessian" in err


def test_a_run_is_surveyed_at_its_last_model_its_start_and_into_a_report(
    task: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder, page = tmp_path / "run", tmp_path / "page.html"
    assert main(["fit", str(task), "--folder", str(folder), "--quiet"]) == 0
    capfd.readouterr()
    found = {}
    for at in ("last", "start"):
        words = ["survey", str(folder), "--at", at, "--json", "--quiet", "--report", str(page)]
        assert main([*words, "--dtype", "float64"]) == 0
        found[at] = json.loads(capfd.readouterr().out)
    run = ds.load_run(folder)
    direct = ds.survey(run.the_problem(), run.model("last").double(), progress=False)
    assert found["last"]["loss"] == pytest.approx(direct.loss)
    assert found["last"]["loss"] < found["start"]["loss"]
    assert found["last"]["eigenvalues"] == pytest.approx(direct.eigenvalues.tolist())
    assert "The ground it stands on" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "needs a TASK"),
        (["TASK", "--at", "end"], "--at end"),
        (["TASK", "--examples", "0"], "examples=0"),
        (["TASK", "--examples", "many"], "--examples many"),
        (["TASK", "--dtype", "int8"], "--dtype int8"),
        (["TASK", "--optimizers", "gd"], "go with --function NAME"),
        (["TASK", "--budget", "500 steps"], "--budget 500 steps: must be a time here"),
        (["TASK", "--function", "beale"], "goes without a task"),
    ],
)
def test_words_that_make_no_survey_are_refused_in_one_line(
    words: list[str], said: str, task: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    given = [str(task) if word == "TASK" else word for word in words]
    assert main(["survey", *given, "--quiet"]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert said in err.strip().splitlines()[-1]


def test_ctrl_c_shows_what_was_found_and_gives_130(
    task: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(_Survey, "_layers", interrupt)
    assert main(["survey", str(task), "--quiet"]) == 130
    assert "interrupted: not measured are layers" in " ".join(capfd.readouterr().out.split())


def test_a_folder_of_runs_is_told_from_a_run(
    task: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("one", "two"):
        words = ["fit", str(task), "--folder", str(tmp_path / "runs" / name), "--quiet"]
        assert main(words) == 0
    capfd.readouterr()
    assert main(["survey", str(tmp_path / "runs")]) == 2
    told = capfd.readouterr().err
    assert "holds 2 runs; name one of them" in told
    assert str(tmp_path / "runs" / "two") in told


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["TASK", "--directions", "eigen"], "--slice N"),
        (["--function", "saddle", "--directions", "eigen"], "--slice N"),
        (["--function", "saddle", "--slice", "5"], "goes with a task"),
        (["--function", "saddle", "--density"], "goes with a task"),
        (["--function", "saddle", "--optimizers", ","], "name one or more"),
        (["TASK", "--slice", "2"], "at least 3 points"),
        (["TASK", "--slice", "5", "--directions", "eigne"], "did you mean 'eigen'"),
    ],
)
def test_an_option_that_would_count_for_nothing_is_refused(
    task: Path, words: list[str], said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["survey", *(str(task) if word == "TASK" else word for word in words)]) == 2
    told = capfd.readouterr().err
    assert said in told
    assert "eigenvalues" not in told  # nothing was measured before


def test_ctrl_c_tells_what_was_known_by_then(
    task: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("downslope.terrain.surveys.survey.ends", interrupt)
    assert main(["survey", str(task)]) == 130
    assert "before the kind was known: loss" in capfd.readouterr().err


def test_the_word_of_a_section_leads_to_its_concepts(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["concepts", "convexity"]) == 0
    assert "convex" in capfd.readouterr().out
    assert main(["concepts", "start and normalisation"]) == 2
    assert "its concepts are" in capfd.readouterr().err
