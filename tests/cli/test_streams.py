"""Standard streams that are full, closed, or shared with a task that prints."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from downslope.cli import guard
from downslope.cli.outcome import attempted
from downslope.core.errors import InputError

TASK = """
import torch
import downslope as ds

print("read")

def problem():
    print("made")
    x = torch.randn(64, 3)
    return ds.Problem(model=torch.nn.Linear(3, 1), objective="mse", train=(x, x[:, :1]))

def recipe():
    return ds.Recipe(steps=5)
"""


def shell(words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    line = f"{sys.executable} -m downslope {words}"
    return subprocess.run(["sh", "-c", line], capture_output=True, text=True, cwd=folder, check=False)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("words", ["concepts", "--help", "--version", "fit --help"])
def test_a_full_standard_output_is_told_in_one_line(words: str, tmp_path: Path) -> None:
    done = shell(f"{words} >/dev/full", tmp_path)
    assert done.returncode == guard.UNUSABLE
    assert done.stderr == "downslope: standard output cannot be written: No space left on device\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("where", ["2>/dev/full", "2>&-"])
def test_a_standard_error_that_takes_nothing_leaves_the_status_alone(where: str, tmp_path: Path) -> None:
    done = shell(f"nosuchverb {where}", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (guard.UNUSABLE, "", "")


def test_a_closed_standard_output_is_no_error(tmp_path: Path) -> None:
    done = shell("--version >&-", tmp_path)
    assert (done.returncode, done.stderr) == (guard.DONE, "")


def test_a_task_that_prints_leaves_one_document_on_standard_output(tmp_path: Path) -> None:
    (tmp_path / "task.py").write_text(TASK)
    done = shell("fit task.py --json --quiet", tmp_path)
    assert done.returncode == guard.DONE, done.stderr
    assert json.loads(done.stdout)["verb"] == "fit"
    assert done.stderr.splitlines()[:2] == ["read", "made"]


def test_a_script_without_a_last_newline_leaves_the_document_a_line_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("print('no newline', end='')\n")
    done = shell("watch --json train.py", tmp_path)
    first, last = done.stdout.splitlines()
    assert first == "no newline"
    assert json.loads(last)["verb"] == "watch"


def test_an_unknown_option_before_the_script_names_the_nearest(tmp_path: Path) -> None:
    done = shell("watch --jsonn train.py", tmp_path)
    assert done.returncode == guard.UNUSABLE
    assert done.stderr.startswith("downslope: No such option: --jsonn; did you mean '--json'?")


def test_a_report_that_cannot_be_written_in_the_end_does_not_cost_the_diagnosis(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(
        "import os, torch\n"
        "os.rmdir('reports')\nopen('reports', 'w').close()\n"
        "m = torch.nn.Linear(2, 1)\no = torch.optim.SGD(m.parameters(), 0.1)\n"
        "for k in range(30):\n"
        "    o.zero_grad()\n"
        "    torch.nn.functional.mse_loss(m(torch.ones(4, 2)), torch.ones(4, 1)).backward()\n"
        "    o.step()\n"
    )
    done = shell("watch --report reports/r.html train.py", tmp_path)
    assert done.returncode == guard.UNUSABLE
    assert "fit     30 steps" in done.stderr
    assert "r.html cannot be written" in done.stderr.splitlines()[-1]


def test_a_failure_to_write_is_kept_until_the_result_was_shown() -> None:
    def refuse() -> Path:
        raise InputError("no place")

    written, failure = attempted(refuse)
    assert written is None
    assert str(failure) == "no place"
