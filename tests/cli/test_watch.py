from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from downslope.cli import guard

SCRIPT = """
import sys
import torch

torch.manual_seed(0)
torch.set_num_threads(1)
x = torch.randn(64, 3)
model = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=float(sys.argv[2]))
for step in range(60):
    optimizer.zero_grad()
    loss = torch.nn.functional.mse_loss(model(x), x.sum(1, keepdim=True))
    loss.backward()
    optimizer.step()
print("script saw", sys.argv[1:])
"""


def watched(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    (folder / "train.py").write_text(SCRIPT)
    command = [sys.executable, "-m", "downslope", "watch", *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)


def test_a_script_keeps_its_arguments_and_its_output(tmp_path: Path) -> None:
    done = watched(tmp_path, "train.py", "--lr", "0.1", "--json", "--report", "x")
    assert done.stdout == "script saw ['--lr', '0.1', '--json', '--report', 'x']\n"
    assert done.returncode == guard.DONE, done.stderr
    assert "healthy, nothing to fix" in done.stderr
    assert sorted(each.name for each in tmp_path.iterdir()) == ["train.py"]


@pytest.mark.parametrize(("lr", "status"), [("0.1", guard.DONE), ("1e6", guard.SICK)])
def test_json_is_the_last_line_of_standard_output(tmp_path: Path, lr: str, status: int) -> None:
    done = watched(tmp_path, "--json", "--report", "r.html", "train.py", "--lr", lr)
    assert done.returncode == status, done.stderr
    first, last = done.stdout.splitlines()
    assert first.startswith("script saw")
    found = json.loads(last)
    assert found["healthy"] is (status == guard.DONE)
    assert (found["verb"], found["script_exit"], found["report"]) == ("watch", 0, "r.html")
    assert (tmp_path / "r.html").read_text().startswith("<!doctype html>")


@pytest.mark.parametrize("given", ["-1", "nan", "inf"])
def test_a_time_for_trials_that_is_none_is_one_clear_line(tmp_path: Path, given: str) -> None:
    done = watched(tmp_path, "--trials", given, "train.py", "--lr", "0.1")
    assert (done.returncode, done.stdout) == (guard.UNUSABLE, "")
    assert done.stderr.count("\n") == 1
    assert "--trials" in done.stderr
    assert "0 for none" in done.stderr


def test_a_script_that_trains_nothing_is_unusable_input(tmp_path: Path) -> None:
    (tmp_path / "empty.py").write_text("print('hello')\n")
    done = watched(tmp_path, "empty.py")
    assert (done.returncode, done.stdout) == (guard.UNUSABLE, "hello\n")
    assert done.stderr.count("\n") == 1
    assert "no step of a torch optimizer was seen" in done.stderr


def test_of_a_script_that_ends_by_itself_before_any_step_that_is_said(tmp_path: Path) -> None:
    parse = "import argparse\np = argparse.ArgumentParser()\np.add_argument('--n', required=True)\n"
    (tmp_path / "parse.py").write_text(f"{parse}p.parse_args()\n")
    done = watched(tmp_path, "parse.py")
    assert (done.returncode, done.stdout) == (2, "")
    last = done.stderr.splitlines()[-1]
    assert "the script itself ended with status 2 before any step of an optimizer" in last
    assert "no step of a torch optimizer was seen" not in done.stderr


def test_a_script_that_never_steps_is_told_so_in_its_verdict(tmp_path: Path) -> None:
    (tmp_path / "never.py").write_text(
        "import torch\nm = torch.nn.Linear(2, 1)\nrule = torch.optim.Adam(m.parameters())\n"
        "for _ in range(30):\n    m(torch.randn(4, 2)).square().mean().backward()\n"
    )
    done = watched(tmp_path, "never.py")
    assert done.returncode == guard.SICK
    assert "NEVER STEPPED: backward() was called 30 times" in done.stderr
    assert "frozen-parameters [critical]" in done.stderr
    assert "did not record" not in done.stderr


@pytest.mark.parametrize(
    ("line", "status", "by"),
    [
        ("raise ValueError('of mine')", 1, "ValueError: of mine (line 15 of train.py)"),
        ("sys.exit(5)", 5, "its own exit with status 5"),
    ],
)
def test_a_script_that_fails_is_never_healthy_and_keeps_its_status(
    tmp_path: Path, line: str, status: int, by: str
) -> None:
    failing = SCRIPT.replace('print("script saw", sys.argv[1:])', line)
    (tmp_path / "train.py").write_text(failing)
    command = [sys.executable, "-m", "downslope", "watch", "train.py", "--lr", "0.1"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == status
    assert "healthy" not in done.stderr
    assert f"stopped at step 60 by {by}" in " ".join(done.stderr.split())
    assert "nothing wrong was seen in the training until it stopped" in done.stderr
    plain = [sys.executable, "train.py", "--lr", "0.1"]
    alone = subprocess.run(plain, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert alone.returncode == status
    assert done.stderr.startswith(alone.stderr)


def test_a_script_finds_what_lies_beside_it_from_any_folder(tmp_path: Path) -> None:
    (tmp_path / "beside.txt").write_text("found")
    (tmp_path / "else").mkdir()
    reading = "import os\nos.chdir('else')\nfolder = os.path.dirname(os.path.abspath(__file__))\n"
    reading += "print(sys.argv[0], open(os.path.join(folder, 'beside.txt')).read())\n"
    (tmp_path / "train.py").write_text(SCRIPT + reading)
    command = [sys.executable, "-m", "downslope", "watch", "train.py", "--lr", "0.1"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.stdout.splitlines()[1:] == ["train.py found"], done.stderr
    assert done.returncode == guard.DONE


def test_a_sick_script_that_fails_keeps_its_status_too(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SCRIPT + "sys.exit(5)\n")
    command = [sys.executable, "-m", "downslope", "watch", "--json", "train.py", "--lr", "1e6"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 5
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["healthy"], found["script_exit"], found["status"]) == (False, 5, "diverged")
    assert found["findings"][0]["symptom"] == "learning-rate-too-high"


def test_a_module_runs_as_python_m_runs_it(tmp_path: Path) -> None:
    package = tmp_path / "app"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "rates.py").write_text("factor = 1.0\n")
    own = "from .rates import factor\nprint(factor, __package__, __spec__.name, sys.argv, sys.path[0])\n"
    (package / "train.py").write_text(SCRIPT + own)
    words = ["-m", "app.train", "--lr", "0.1"]
    alone = subprocess.run([sys.executable, *words], capture_output=True, text=True, cwd=tmp_path, check=True)
    done = watched(tmp_path, *words)
    assert done.stdout == alone.stdout, done.stderr
    assert done.returncode == guard.DONE
    assert "fit     60 steps" in done.stderr
    assert done.stderr.startswith("app.train  CPU")
    (package / "__main__.py").write_text("from . import train\n")
    assert watched(tmp_path, "-m", "app", *words[2:]).stderr.startswith("app  CPU")
    missing = watched(tmp_path, "-m", "app.nothing")
    assert (missing.returncode, missing.stderr.count("\n")) == (guard.UNUSABLE, 1)
