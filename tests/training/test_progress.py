"""What fit says on standard error: the default recipe where none was given, plain lines elsewhere."""

from __future__ import annotations

import io
import re
import sys
from typing import Any

import pytest

import downslope as ds
from downslope.training import progress
from downslope.training.progress import Progress
from tests.training.problems import regression

HOW = ds.Recipe(optimizer="adam", lr=0.01, batch_size=16, epochs=2)


def said(capsys: pytest.CaptureFixture[str], recipe: ds.Recipe | None, **more: Any) -> list[str]:
    ds.fit(regression(), recipe, folder=False, **more)
    out, err = capsys.readouterr()
    assert out == ""
    return err.splitlines()


def test_where_nothing_is_said_the_default_is(capsys: pytest.CaptureFixture[str]) -> None:
    first = said(capsys, None)[0]
    assert first == "fit: adam (the default) lr 0.001, batch 64"
    assert said(capsys, ds.Recipe(lr=0.5, epochs=1))[0].startswith("fit: adam (the default) lr 0.5")


def test_where_the_optimizer_is_said_nothing_is_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    assert not any("(the default)" in line for line in said(capsys, HOW))


def test_away_from_a_terminal_the_last_line_is_plain_and_of_the_last_step(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = said(capsys, HOW)
    assert len(lines) == 1
    assert re.fullmatch(r"fit 8/8 steps, \d+(\.\d+)? steps/s loss [\d.e+-]+", lines[0]), lines
    run = ds.fit(regression(), HOW, folder=False, progress=False)
    assert lines[0].endswith(f"loss {run.history.last('train_loss'):.4g}")


def test_without_progress_nothing_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, None, progress=False) == []


def test_a_slow_run_says_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with Progress("fit", 30) as bar:
        for step in range(1, 31):
            now[0] += 1.0
            bar.update(step, f"loss {step}")
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "fit 10/30 steps, 1 steps/s, 20 s left loss 10",
        "fit 20/30 steps, 1 steps/s, 10 s left loss 20",
        "fit 30/30 steps, 1 steps/s loss 30",
        "fit 30/30 steps, 1 steps/s loss 30",
    ]


def test_before_the_first_is_done_no_pace_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with Progress("rates", 8, unit="runs", brief=True) as bar:
        now[0] = 11.0
        bar.update(0, "8 train together")
        now[0] = 22.0
        bar.update(0)
    assert capsys.readouterr().err == "rates 0/8 runs, 8 train together\nrates 0/8 runs\n"


def test_in_a_terminal_there_is_a_bar_and_no_plain_line(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    with Progress("fit", 3) as bar:
        bar.update(3, "loss 1")
        assert bar.bar is not None
    assert "steps/s loss" not in screen.getvalue()
