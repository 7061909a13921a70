"""A watched script that closes, replaces or leaves behind its standard streams, or leaves by ``os._exit``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from downslope.cli import guard

BUFFERED = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}

SCRIPT = """
import os, sys
import torch

torch.manual_seed(0)
torch.set_num_threads(1)
x = torch.randn(64, 3)
model = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
for step in range(60):
    optimizer.zero_grad()
    loss = torch.nn.functional.mse_loss(model(x), x.sum(1, keepdim=True))
    loss.backward()
    optimizer.step()
"""


def watched(folder: Path, ending: str, *words: str, rate: str = "0.1") -> subprocess.CompletedProcess[str]:
    (folder / "train.py").write_text(SCRIPT.replace("RATE", rate) + ending + "\n")
    command = [sys.executable, "-m", "downslope", "watch", *words, "train.py"]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False, env=BUFFERED)


def alone(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "train.py"]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False, env=BUFFERED)


@pytest.mark.parametrize("ending", ["print('done'); sys.stdout.close()", "print('done'); sys.stderr.close()"])
def test_a_script_may_close_its_streams_at_its_end(ending: str, tmp_path: Path) -> None:
    done = watched(tmp_path, ending)
    assert done.returncode == guard.DONE, done.stderr
    assert done.stdout == "done\n"
    assert done.stderr.endswith("healthy, nothing to fix\n")
    told = watched(tmp_path, ending, "--json")
    first, last = told.stdout.splitlines()
    assert (first, json.loads(last)["healthy"], told.returncode) == ("done", True, guard.DONE)


def test_the_document_goes_where_standard_output_went_at_the_start(tmp_path: Path) -> None:
    done = watched(tmp_path, "sys.stdout = open('own.log', 'w'); print('mine')", "--json")
    assert json.loads(done.stdout)["verb"] == "watch"
    assert (tmp_path / "own.log").read_text() == "mine\n"


def test_a_document_that_has_no_place_left_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SCRIPT.replace("RATE", "0.1") + "sys.stdout.close()\n")
    before = "import os, sys; os.dup = lambda n: (_ for _ in ()).throw(OSError(9, 'closed'))\n"
    run = "from downslope.cli.main import run; sys.argv = ['downslope', 'watch', '--json', 'train.py']; run()"
    done = subprocess.run(
        [sys.executable, "-c", before + run], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert (done.returncode, done.stdout) == (guard.DONE, "")
    assert done.stderr.splitlines()[-1] == (
        "downslope: standard output was closed by the script: the JSON is not written"
    )


@pytest.mark.parametrize(("status", "rate", "left"), [(0, "0.1", 0), (0, "1e6", 1), (7, "1e6", 7)])
def test_a_script_that_leaves_at_once_is_diagnosed(status: int, rate: str, left: int, tmp_path: Path) -> None:
    done = watched(tmp_path, f"print('never flushed', end='')\nos._exit({status})", rate=rate)
    assert (done.returncode, done.stdout) == (left, "")
    assert ("learning-rate-too-high" in done.stderr) is (rate == "1e6")
    assert ("healthy, nothing to fix" in done.stderr) is (left == 0)
    if rate == "0.1":
        plain = alone(tmp_path)
        assert (plain.returncode, plain.stdout) == (status, "")


def test_leaving_at_once_runs_nothing_of_the_script_and_flushes_nothing(tmp_path: Path) -> None:
    ending = "import atexit; atexit.register(lambda: open('late', 'w'))\nprint('unflushed')\n"
    ending += "try:\n    os._exit(0)\nfinally:\n    open('late', 'w')"
    done = watched(tmp_path, ending, "--json", "--report", "r.html")
    assert json.loads(done.stdout)["healthy"] is True
    assert sorted(each.name for each in tmp_path.iterdir()) == ["r.html", "train.py"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forked_workers_end_without_a_word(tmp_path: Path) -> None:
    ending = "sys.stdout.flush()\nif os.fork() == 0:\n    os._exit(0)\nos.wait()\nprint('parent')"
    done = watched(tmp_path, ending)
    assert (done.returncode, done.stdout) == (guard.DONE, "parent\n")
    assert done.stderr.count("healthy, nothing to fix") == 1
