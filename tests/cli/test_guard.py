from __future__ import annotations

import json
import re
import runpy
from pathlib import Path

import pytest

from downslope.cli import guard
from downslope.cli.main import main
from downslope.core.errors import DataError, RunFolderError


def failing(error: BaseException) -> int:
    raise error


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (DataError("train: empty"), guard.UNUSABLE),
        (RunFolderError("x: no run there"), guard.UNUSABLE),
        (KeyboardInterrupt(), guard.INTERRUPTED),
    ],
)
def test_an_error_becomes_a_status_and_one_line(
    error: BaseException, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert guard.guarded(lambda: failing(error)) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("downslope: ")


def test_a_message_of_several_lines_is_told_in_one(capsys: pytest.CaptureFixture[str]) -> None:
    guard.guarded(lambda: failing(DataError("one\n  two")))
    assert capsys.readouterr().err == "downslope: one two\n"


def test_an_error_in_a_users_file_names_file_and_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("task.py").write_text("def go():\n    return {}['missing']\n")
    go = runpy.run_path("task.py")["go"]
    assert guard.guarded(go) == guard.UNUSABLE
    assert (
        capsys.readouterr().err
        == "downslope: task.py, line 2: KeyError: 'missing' (--debug shows the traceback)\n"
    )


def test_debug_shows_the_traceback_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert guard.guarded(lambda: failing(DataError("empty")), debug=True) == guard.UNUSABLE
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert err.endswith("downslope: empty\n")


@pytest.mark.parametrize("page", ["README.md", "README.zh-CN.md"])
def test_the_readme_lists_every_status_that_there_is(page: str) -> None:
    lines = (Path(__file__).parents[2] / page).read_text(encoding="utf-8").splitlines()
    listed = [int(found[1]) for line in lines if (found := re.match(r"\| (\d+) \|", line))]
    assert listed == [guard.DONE, guard.SICK, guard.UNUSABLE, guard.FAULT, guard.INTERRUPTED]


def test_a_fault_of_ours_is_called_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(guard, "_is_users", lambda name: False)
    assert guard.guarded(lambda: failing(ZeroDivisionError("x"))) == 70
    assert capsys.readouterr().err == (
        "downslope: ZeroDivisionError: x: a fault of Downslope itself; --debug shows the traceback\n"
    )


def test_a_run_that_diverged_is_done_for_fit_and_sick_for_diagnose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("task.py").write_text("from tests.training.problems import regression as problem\n")
    words = ["task.py", "--quiet", "--json", "--set", "optimizer=sgd", "--set", "lr=1e6"]
    assert main(["fit", *words, "--folder", "a"]) == 0
    assert json.loads(capsys.readouterr().out)["status"] == "diverged"
    assert main(["diagnose", *words, "--folder", "b"]) == 1


def test_what_comes_back_is_the_status_of_the_action() -> None:
    assert guard.guarded(lambda: guard.SICK) == guard.SICK


def test_an_error_of_ours_in_a_users_file_is_told_with_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    text = "import downslope as ds\nfrom tests.training.problems import regression as problem\n"
    Path("task.py").write_text(f"{text}def recipe():\n    return ds.Recipe(lrr=3)\n")
    assert main(["fit", "task.py"]) == 2
    err = capsys.readouterr().err
    assert err == "downslope: 'lrr' is no key of a recipe with adam; did you mean 'lr'? (task.py, line 4)\n"


def test_unusable_input_is_one_line_though_the_recipe_is_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    text = "import downslope as ds\ndef problem():\n    return ds.Problem(model='mlpp', "
    Path("task.py").write_text(f"{text}objective='cross_entropy', train='digits')\n")
    assert main(["fit", "task.py"]) == 2
    assert capsys.readouterr().err == "downslope: model 'mlpp' is not known; did you mean 'mlp'?\n"
