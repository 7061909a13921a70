"""Going on with a search: interrupted in its confirmation, with other data, ended, by two at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

import pytest
import torch
from torch import nn

from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.core.space import log
from downslope.tuning.tune import resume, tune

LR = {"lr": log(1e-3, 1)}
HOW = {"trials": 6, "batch": 3, "confirm": 1, "fresh": 3, "progress": False}


def data(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(24, 3, generator=generator, dtype=torch.float64)
    return x, (x[:, 0] > 0).long()


def model() -> nn.Module:
    return nn.Linear(3, 2).double()


def problem(train: int = 0, valid: int = 1, **more) -> Problem:
    return Problem(model=model, objective="cross_entropy", train=data(train), valid=data(valid), **more)


RECIPE = Recipe(optimizer="sgd", epochs=4, batch_size=8)


def test_ctrl_c_in_the_confirmation_is_heard_although_training_hears_it_first(tmp_path: Path) -> None:
    pressed: list[bool] = []

    def press(standing) -> None:
        if standing.phase == "confirming" and standing.running and not pressed:
            pressed.append(True)
            os.kill(os.getpid(), signal.SIGINT)

    found = tune(problem(), RECIPE, LR, folder=tmp_path / "s", watch=press, **HOW)
    assert pressed
    assert found.interrupted
    assert len(found.done) == 6
    rest = resume(tmp_path / "s", problem(), progress=False)
    assert not rest.interrupted
    assert len(rest.best.fresh) == 3


def test_a_search_that_has_ended_says_again_what_it_said(tmp_path: Path) -> None:
    first = tune(problem(), RECIPE, LR, folder=tmp_path / "s", **HOW)
    again = resume(tmp_path / "s", problem(), progress=False)
    assert again.steps == first.steps == (6 + 3) * 12
    assert again.seconds >= first.seconds
    assert again.best.fresh == first.best.fresh


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, None),
        ({"train": 2}, "the training data are not what this search began with"),
        ({"valid": 2}, "the validation data are not what this search began with"),
    ],
)
def test_data_that_have_changed_are_told(
    given: dict[str, int], told: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tune(problem(), RECIPE, LR, folder=tmp_path / "s", **HOW)
    resume(tmp_path / "s", problem(**given), progress=False)
    assert told in caplog.text if told else "began with" not in caplog.text


def test_a_task_that_has_changed_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    task = tmp_path / "task.py"
    task.write_text("# one\n", encoding="utf-8")
    shared = tmp_path / "shared.log"
    tune(problem(task=str(task)), RECIPE, LR, folder=tmp_path / "a", storage=shared, **HOW)
    tune(problem(task=str(task)), RECIPE, LR, folder=tmp_path / "b", storage=shared, **HOW)
    assert "began with" not in caplog.text
    task.write_text("# another\n", encoding="utf-8")
    tune(problem(task=str(task)), RECIPE, LR, folder=tmp_path / "c", storage=shared, **HOW)
    assert f"{task} is not what this search began with" in caplog.text


@pytest.mark.skipif(sys.platform == "win32", reason="a file in use cannot be replaced there")
def test_two_that_go_on_with_one_search_share_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tune(problem(), RECIPE, LR, folder=tmp_path / "s", **(HOW | {"trials": 1, "confirm": 0}))
    text = (tmp_path / "s" / "search.toml").read_text(encoding="utf-8")
    (tmp_path / "s" / "search.toml").write_text(text.replace("trials = 1", "trials = 24"), encoding="utf-8")
    found = []
    both = [
        threading.Thread(target=lambda: found.append(resume(tmp_path / "s", problem(), progress=False)))
        for _ in range(2)
    ]
    for each in both:
        each.start()
    for each in both:
        each.join()
    assert len(found) == 2
    last = resume(tmp_path / "s", problem(), progress=False)
    assert [each.number for each in last.trials] == list(range(24))
    assert all(each.state == "done" for each in last.trials)
    assert "not complete" not in caplog.text
