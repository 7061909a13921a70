from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from downslope.cli import guard
from downslope.cli.main import main

TASK = """
import torch
from torch import nn
import downslope as ds

def model(width: int = 8):
    return nn.Sequential(nn.Linear(3, width), nn.ReLU(), nn.Linear(width, 1))

def problem():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(64, 3, generator=g)
    y = x @ torch.tensor([[1.0], [-2.0], [0.5]])
    return ds.Problem(model=model, objective="squared_error", train=(x[:48], y[:48]), valid=(x[48:], y[48:]))

def recipe():
    return ds.Recipe(optimizer="adam", lr=0.02, batch_size=16, epochs=4, seed=1)
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DOWNSLOPE_CACHE", str(tmp_path / "cache"))
    Path("task.py").write_text(TASK)
    return tmp_path


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one line with which the command line refuses `words`."""
    assert main(list(words)) == guard.UNUSABLE
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1, err
    assert err.startswith("downslope: ")
    return err


# -- unusable input is one line ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["fit"], "Missing argument"),
        (["fot"], "No such command 'fot'"),
        (["fit", "task.py", "--recip", "x"], "No such option"),
        (["fit", "task.py", "--seed", "abc"], "--seed"),
        (["fit", "nothing.py"], "no such file"),
        (["fit", "task.py", "--recipe", "nothing.toml"], "nothing.toml"),
        (["fit", "task.py", "--set", "lr=-1"], "lr=-1"),
        (["fit", "task.py", "--set", "bacth_size=4"], "did you mean 'batch_size'"),
        (["fit", "task.py", "--set", "model.widht=4"], "did you mean 'width'"),
        (["fit", "task.py", "--set", "optimizer=adm"], "did you mean 'adam'"),
        (["fit", "task.py", "--report", "."], "is a folder"),
        (["diagnose", "task.py", "--budget", "3x"], "budget"),
        (["repair", "task.py", "--seeds", "1"], "seeds=1"),
        (["report", "nowhere"], "nowhere: no run there"),
        (["resume", "nowhere"], "nowhere: no run there"),
        (["concepts", "adamm"], "did you mean 'adam'"),
        (["watch", "nothing.py"], "nothing.py"),
    ],
)
def test_unusable_input_is_refused_in_one_line(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in refused(capsys, *words)


def test_a_misspelt_key_of_a_recipe_file_is_answered_with_the_nearest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("r.toml").write_text('optimizer = "sgd"\nbatchsize = 4\n')
    assert "did you mean 'batch_size'" in refused(capsys, "fit", "task.py", "--recipe", "r.toml")


def test_a_task_that_raises_is_told_with_file_line_and_error(capsys: pytest.CaptureFixture[str]) -> None:
    Path("bad.py").write_text("def problem():\n    return 1 / 0\n")
    line = refused(capsys, "fit", "bad.py")
    assert "ZeroDivisionError" in line
    assert "bad.py" in line
    assert "line 2" in line


def test_a_model_that_raises_is_told_with_file_line_and_error(capsys: pytest.CaptureFixture[str]) -> None:
    broken = TASK.replace("return nn.Sequential(", "return Broken(").replace(
        "def model",
        "class Broken(nn.Sequential):\n    def forward(self, x):\n        return {}['no']\n\ndef model",
    )
    Path("broken.py").write_text(broken)
    number = broken.splitlines().index("        return {}['no']") + 1
    assert f"(broken.py, line {number})" in refused(capsys, "fit", "broken.py")


def test_a_refused_run_leaves_nothing_behind(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    refused(capsys, "fit", "task.py", "--set", "lr=-1", "--folder", "runs/x")
    assert not (here / "runs").exists()


# -- what works -------------------------------------------------------------------------------------------


def test_fit_prints_what_came_out_and_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "task.py", "--quiet", "--folder", "r"]) == guard.DONE
    out, err = capsys.readouterr()
    assert err == ""
    rows = out.splitlines()
    assert rows[0].startswith("task.py  CPU")
    assert "48 train / 16 valid  adam lr 0.02, batch 16" in rows[0]
    assert rows[1].startswith("fit     12/12  ")
    assert "valid loss" in rows[1]
    assert rows[-2:] == ["kept    r", "next    downslope diagnose task.py"]


def test_json_is_one_document_with_the_numbers_of_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "fit",
        "task.py",
        "--json",
        "--folder",
        "r",
        "--set",
        "epochs=2",
        "--seed",
        "7",
        "--report",
        "r.html",
    ]
    assert main(words) == guard.DONE
    found = json.loads(capsys.readouterr().out)
    assert found["verb"] == "fit"
    assert found["recipe"] | {"seed": 7, "epochs": 2} == found["recipe"]
    assert found["summary"]["steps"] == 6
    assert found["report"] == "r.html"
    assert Path("r.html").exists()


def test_numbers_that_are_not_finite_are_null_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["fit", "task.py", "--json", "--folder", "r", "--set", "optimizer=sgd", "--set", "lr=1e30"]
    main(words)

    def refuse(constant: str) -> float:
        raise AssertionError(constant)

    assert json.loads(capsys.readouterr().out, parse_constant=refuse)["status"] == "diverged"


def test_a_recipe_file_and_later_settings_are_followed(capsys: pytest.CaptureFixture[str]) -> None:
    Path("r.toml").write_text(
        'optimizer = "sgd"\nlr = 0.5\nepochs = 1\n\n[[edit]]\nkind = "standardise-inputs"\n'
    )
    words = ["fit", "task.py", "--json", "--folder", "r", "--recipe", "r.toml", "--set", "lr=0.25"]
    assert main(words) == guard.DONE
    found = json.loads(capsys.readouterr().out)
    assert (found["recipe"]["optimizer"], found["recipe"]["lr"]) == ("sgd", 0.25)
    kept = json.loads(Path("r/run.json").read_text())
    assert [each["kind"] for each in kept["problem"]["edits"]] == ["standardise-inputs"]


def test_a_kept_run_can_be_drawn_and_resumed(capsys: pytest.CaptureFixture[str]) -> None:
    main(["fit", "task.py", "--quiet", "--folder", "r"])
    capsys.readouterr()
    assert main(["report", "r"]) == guard.DONE
    assert capsys.readouterr().out == "report  r/report.html\n"
    assert Path("r/report.html").read_text().startswith("<!doctype html>")
    assert main(["resume", "r", "--json"]) == guard.DONE
    assert json.loads(capsys.readouterr().out)["summary"]["steps"] == 12


def test_remarks_on_what_was_chosen_go_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "wine", "--json", "--folder", "r", "--set", "epochs=1"]) == guard.DONE
    out, err = capsys.readouterr()
    json.loads(out)
    assert "model mlp, objective cross_entropy, metric accuracy" in err


def test_concepts_are_listed_shown_and_machine_readable(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["concepts", "--json"]) == guard.DONE
    rows = json.loads(capsys.readouterr().out)["concepts"]
    assert main(["concepts", rows[0]["name"]]) == guard.DONE
    assert rows[0]["title"] in capsys.readouterr().out


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    import downslope

    assert main(["--version"]) == guard.DONE
    assert capsys.readouterr().out == f"downslope {downslope.__version__}\n"


# -- processes --------------------------------------------------------------------------------------------


def test_help_and_version_load_no_torch_and_no_rich() -> None:
    code = (
        "import sys\nfrom downslope.cli.main import main\n"
        "for words in (['--help'], ['--version'], ['fit', '--help']): assert main(words) == 0\n"
        "print(' '.join(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert loaded.isdisjoint({"torch", "numpy", "rich", "plotly", "sklearn"})


def test_ctrl_c_ends_with_130_and_the_run_kept(here: Path) -> None:
    slow = TASK.replace("epochs=4", "epochs=100000")
    Path("slow.py").write_text(slow)
    command = [sys.executable, "-m", "downslope", "fit", "slow.py", "--folder", "r", "--quiet"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    lines = here / "r" / "history.jsonl"
    until = time.monotonic() + 60
    while time.monotonic() < until and not (lines.exists() and "columns" in lines.read_text()):
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == guard.INTERRUPTED
    assert err == ""
    assert "interrupted; what was done is kept" in out
    assert out.endswith("next    downslope resume r\n")
    assert json.loads((here / "r" / "run.json").read_text())["status"] == "interrupted"


def test_the_help_tells_every_exit_status(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    told = capsys.readouterr().out.partition("Exit status:")[2]
    for status in (guard.DONE, guard.SICK, guard.UNUSABLE, guard.FAULT, guard.INTERRUPTED):
        assert f" {status} " in told.replace("\n", " ")
