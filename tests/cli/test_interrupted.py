"""Ctrl-C and kills: what was done is kept, the status says it, and a resumed run ends with the same bits."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import downslope as ds
from downslope.cli import guard
from downslope.cli.main import main
from downslope.core.weights import load_tensors
from downslope.diagnosis import contest
from tests.training.problems import same_state

TASK = """
import os, signal
from pathlib import Path
import torch
from torch import nn
import downslope as ds
from downslope.training import checkpoint
from downslope.training.step import Step

checkpoint.SaveTimes.due = lambda _: True  # a checkpoint at every step
torch.set_num_threads(1)

def model(width: int = 8):
    return nn.Sequential(nn.Linear(3, width), nn.Tanh(), nn.Dropout(0.3), nn.Linear(width, 1))

def count():
    with Path("steps").open("ab") as file:
        file.write(b".")
    step = Path("steps").stat().st_size
    for file, number in (("press", signal.SIGINT), ("kill", signal.SIGKILL)):
        if Path(file).exists() and step == int(Path(file).read_text()):
            os.kill(os.getpid(), number)

def move(self, batch, own=getattr(Step, "own", Step.move)):
    own(self, batch)
    count()

Step.own, Step.move = getattr(Step, "own", Step.move), move  # a task may be read twice

def problem():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(192, 3, generator=g)
    y = x @ torch.tensor([[1.0], [-2.0], [0.5]])
    return ds.Problem(model=model, objective="squared_error", train=(x[:128], y[:128]),
                      valid=(x[128:], y[128:]))

def recipe():
    return ds.Recipe(optimizer="adam", lr=0.01, batch_size=16, epochs=5, seed=1)
"""
TOTAL = 5 * 8


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from downslope.training.checkpoint import SaveTimes
    from downslope.training.step import Step

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DOWNSLOPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(SaveTimes, "due", SaveTimes.due)  # the task sets both
    monkeypatch.setattr(Step, "move", Step.move)
    monkeypatch.setattr(Step, "own", Step.move, raising=False)
    Path("task.py").write_text(TASK)
    return tmp_path


def steps() -> int:
    """Optimizer steps taken by every process and run so far."""
    return Path("steps").stat().st_size


def forget() -> None:
    for name in ("steps", "press", "kill"):
        Path(name).unlink(missing_ok=True)


def weights(folder: str, which: str) -> dict[str, torch.Tensor]:
    return load_tensors(Path(folder, "checkpoints", f"{which}.safetensors"))[0]


def same(a: str, b: str) -> None:
    for which in ("last", "best"):
        assert same_state(weights(a, which), weights(b, which))
    assert not same_state(weights(a, "last"), ds.load_run(a).the_problem().build(1).state_dict())
    first, second = (ds.load_run(each) for each in (a, b))
    assert first.status == second.status == "done"
    for name in ("train_loss", "valid_loss"):
        assert first.history[name].tobytes() == second.history[name].tobytes()


@pytest.mark.parametrize("settings", [[], ["--set", "model.width=5", "--set", "objective=huber"]])
def test_a_fit_that_was_killed_and_resumed_ends_with_the_same_bits(settings: list[str]) -> None:
    threads = torch.get_num_threads()
    try:
        assert main(["fit", "task.py", "--folder", "whole", "--quiet", *settings]) == guard.DONE
        assert steps() == TOTAL
        forget()
        Path("kill").write_text("23")
        command = [sys.executable, "-m", "downslope", "fit", "task.py", "--folder", "killed", "--quiet"]
        killed = subprocess.run([*command, *settings], env=os.environ | {"OMP_NUM_THREADS": "1"},
                                capture_output=True, check=False, timeout=120)  # fmt: skip
        assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
        assert json.loads(Path("killed/run.json").read_text())["status"] == "running"
        Path("kill").unlink()
        assert main(["resume", "killed", "--quiet"]) == guard.DONE
        assert steps() == TOTAL + 1  # only the step in which it was killed is taken again
    finally:
        torch.set_num_threads(threads)
    same("whole", "killed")


def test_ctrl_c_in_a_fit_keeps_the_run_and_resume_finishes_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "task.py", "--folder", "whole", "--quiet"]) == guard.DONE
    forget()
    Path("press").write_text("13")
    assert main(["fit", "task.py", "--folder", "part", "--quiet"]) == 130
    assert capsys.readouterr().out.endswith("next    downslope resume part\n")
    assert ds.load_run("part").summary["steps"] == 13
    assert main(["resume", "part", "--quiet"]) == guard.DONE
    assert steps() == TOTAL
    same("whole", "part")


def test_ctrl_c_in_a_resumed_run_has_the_same_status(capsys: pytest.CaptureFixture[str]) -> None:
    Path("press").write_text("13")
    assert main(["fit", "task.py", "--folder", "part", "--json", "--quiet"]) == 130
    assert json.loads(capsys.readouterr().out)["status"] == "interrupted"
    Path("press").write_text("20")
    assert main(["resume", "part", "--json", "--quiet"]) == 130
    found = json.loads(capsys.readouterr().out)
    assert (found["status"], found["summary"]["steps"]) == ("interrupted", 20)


def test_ctrl_c_in_a_diagnosis_tells_what_was_found_and_ends_with_130(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("press").write_text("150")  # in the run itself: what is timed before takes at most a few steps
    words = ["diagnose", "task.py", "--folder", "a", "--quiet", "--set", "epochs=200"]
    assert main(words) == 130
    out = capsys.readouterr().out
    assert "interrupted; what was done is kept" in out
    assert "clear" in out
    assert "healthy" not in out
    assert "Interrupted after " in out
    assert steps() == 150
    run = ds.load_run("a")
    assert run.status == "interrupted"
    assert not ds.diagnose(run).healthy  # what was not judged then cannot be judged now


def test_ctrl_c_in_the_diagnosis_of_a_repair_tries_no_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    Path("press").write_text("150")
    words = ["repair", "task.py", "--folder", "a", "--quiet", "--set", "lr=50", "--set", "epochs=200"]
    assert main(words) == 130
    out = " ".join(capsys.readouterr().out.split())
    assert "not judged; problem and recipe stay as they are" in out
    assert "healthy" not in out
    assert steps() == 150
    assert not Path("fixed.toml").exists()


def test_ctrl_c_among_the_trials_of_a_repair_ends_it_with_what_is_proved(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    populations: list[int] = []
    train = contest.fit_population

    def counted(*args: Any, **more: Any) -> Any:
        populations.append(steps())
        if len(populations) == 3:  # the remedies from two seeds, and this one
            Path("press").write_text(str(steps() + 5))
        return train(*args, **more)

    monkeypatch.setattr(contest, "fit_population", counted)
    assert main(["repair", "task.py", "--folder", "a", "--json", "--quiet", "--set", "lr=50"]) == 130
    found = json.loads(capsys.readouterr().out)
    assert len(populations) == 3
    assert steps() == populations[2] + 5
    assert found["trials"]
    assert all(len(each["after"]) == 2 for each in found["trials"] if each["verdict"] == "kept")
    kept = (
        "problem and recipe stay as they are" if found["kept"] is None else "what was proved by then is kept"
    )
    assert found["notes"] == [f"Interrupted: what was not tried by then is not judged; {kept}."]
    assert (found["kept"] is not None) == Path("fixed.toml").exists()


SCRIPT = """
import signal
import torch
from torch import nn
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr={lr})
for step in range(300):
    x = torch.randn(32, 3)
    optimizer.zero_grad()
    nn.functional.mse_loss(model(x), x.sum(1, keepdim=True)).backward()
    optimizer.step()
signal.raise_signal(signal.SIGINT)
print("not reached")
"""


@pytest.mark.parametrize(("lr", "healthy"), [("0.05", True), ("1e3", False)], ids=["healthy", "sick"])
def test_a_watched_script_that_ctrl_c_ends_is_judged_and_ends_with_130(
    lr: str, healthy: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("script.py").write_text(SCRIPT.replace("{lr}", lr))
    assert main(["watch", "--json", "script.py"]) == 130
    out, _ = capsys.readouterr()
    assert "not reached" not in out
    found = json.loads(out.splitlines()[-1])
    assert found["script_exit"] == 130
    assert not found["healthy"]  # as of a script that raised: of its end nothing is known
    assert [each["severity"] for each in found["findings"] if each["severity"] != "info"][:1] == (
        [] if healthy else ["critical"]
    )
