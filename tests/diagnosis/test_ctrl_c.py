"""Ctrl-C in a diagnosis, wherever it falls: what was found is told, and nothing else is called clear."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import downslope as ds
from downslope.diagnosis import diagnose as verb
from downslope.diagnosis import repair as mend
from downslope.diagnosis.measure import signal as trees


def press(*_: Any, **__: Any) -> Any:
    """Ctrl-C, as the system sends it."""
    signal.raise_signal(signal.SIGINT)


class Pressed(nn.Module):
    """A net in whose forward pass of number `at` in training mode Ctrl-C is pressed."""

    count = 0

    def __init__(self, at: int = 10**9) -> None:
        super().__init__()
        self.net, self.at = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2)), at

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training and torch.is_grad_enabled():
            Pressed.count += 1
            if Pressed.count == self.at:
                press()
        return self.net(x)


def problem(at: int = 10**9) -> ds.Problem:
    Pressed.count = 0
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(240, 4, generator=generator)
    y = (x[:, 0] + x[:, 1] > 0).long()
    return ds.Problem(
        model=lambda: Pressed(at), objective="cross_entropy", train=(x[:160], y[:160]),
        valid=(x[160:], y[160:]), metric="accuracy",
    )  # fmt: skip


SOUND = ds.Recipe(optimizer="adam", lr=0.01, batch_size=16, epochs=40)
SLOW = ds.Recipe(optimizer="adam", lr=1e-5, batch_size=16, epochs=40)


def diagnosed(task: ds.Problem, recipe: ds.Recipe) -> ds.Diagnosis:
    return ds.diagnose(task, recipe, budget="400 steps", folder=False, progress=False)


def test_a_run_that_is_interrupted_is_not_healthy_and_says_what_was_not_judged() -> None:
    found = diagnosed(problem(200), SOUND)
    taken = found.run.summary["steps"]
    assert found.run.status == "interrupted"
    assert found.interrupted == f"interrupted after {taken} of 400 steps"
    assert not found.healthy
    assert f"Interrupted after {taken} of 400 steps; not judged: " in " ".join(str(found).split())
    assert "Healthy" not in " ".join(str(found).split())
    left = dict(found.not_checked)
    for name in ("learning-rate-too-low", "too-few-steps", "plateau", "high-variance", "dead-units"):
        assert name not in dict(found.cleared)
        assert left[name] == found.interrupted
    assert "an earlier cause explains the run" not in left.values()
    assert dict(found.cleared).keys() >= {"non-finite-data", "constant-target", "stale-gradients"}


@pytest.mark.parametrize("phase", ["price", "_measure_ending", "_rates", "_trial"])
def test_ctrl_c_in_any_phase_of_a_sick_run_tells_what_was_found(
    phase: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place: Any = verb if phase == "price" else verb._Session
    monkeypatch.setattr(place, phase, press)
    found = diagnosed(problem(), SLOW)
    assert found.interrupted.startswith("interrupted after ")
    assert not found.healthy
    assert found.cleared
    assert "learning-rate-too-low" not in dict(found.cleared)
    assert dict(found.not_checked)["label-noise"] == found.interrupted


def test_ctrl_c_in_a_trial_is_one_in_the_diagnosis() -> None:
    trained = 400 + 30  # what is timed before the run takes a few steps
    found = diagnosed(problem(trained), SLOW)
    assert found.run.status == "done"
    assert found.interrupted.startswith("interrupted after the run, at: ")
    assert not found.healthy
    assert "learning-rate-too-low" not in dict(found.cleared)


def test_a_solved_run_stays_healthy_where_only_what_came_after_it_was_interrupted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trees, "measure", press)
    monkeypatch.setattr(verb, "held_out_share", lambda *_, **__: 0.0)
    found = diagnosed(problem(), SOUND)
    assert found.interrupted
    assert found.healthy
    assert dict(found.not_checked)["label-noise"] == found.interrupted
    assert "learning-rate-too-low" in dict(found.cleared)


def test_an_interrupted_repair_without_a_verdict_is_not_told_as_healthy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = problem(200)
    fixed = ds.repair(given, SOUND, budget="400 steps", folder=False, progress=False)
    assert fixed.interrupted
    assert fixed.problem is given
    assert "Healthy" not in str(fixed)
    assert "Interrupted" in str(fixed)
    assert "Nothing helped for certain" not in str(fixed)
    sick = diagnosed(problem(), SLOW)
    assert not sick.interrupted
    monkeypatch.setattr(mend.Mending, "_price", press)
    fixed = ds.repair(problem(), SLOW, diagnosis=sick, folder=False, progress=False)
    assert fixed.interrupted
    assert fixed.recipe == SLOW


SCRIPT = """
import os, signal, torch
from torch import nn
import downslope as ds

class Net(nn.Module):
    count = 0
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(3, 1)
    def forward(self, x):
        Net.count += self.training
        if Net.count == 200:
            os.kill(os.getpid(), signal.SIGINT)
        return self.net(x)

def problem():
    x = torch.randn(128, 3, generator=torch.Generator().manual_seed(0))
    return ds.Problem(model=Net, objective="squared_error", train=(x, x.sum(1, keepdim=True)))

def recipe():
    return ds.Recipe(optimizer="adam", lr=1e-3, batch_size=16, epochs=100)
"""


@pytest.mark.parametrize("verb", ["diagnose", "repair"])
def test_a_terminal_sees_130_and_no_verdict_of_health(verb: str, tmp_path: Path) -> None:
    (tmp_path / "task.py").write_text(SCRIPT)
    default: Callable[[], Any] = lambda: signal.signal(signal.SIGINT, signal.default_int_handler)  # noqa: E731
    done = subprocess.run(
        [sys.executable, "-m", "downslope", verb, "task.py", "--quiet"], cwd=tmp_path, text=True, check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, timeout=120, preexec_fn=default,
    )  # fmt: skip
    assert done.returncode == 130, done.stderr
    said = " ".join(done.stdout.split())
    assert "healthy" not in said
    assert "of 800 steps; not judged: " in said
    assert not (tmp_path / "fixed.toml").exists()
