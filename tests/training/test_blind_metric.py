"""A metric that is never a number: the last model is handed out, kept and named, and it is said."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import pytest
import torch

import downslope as ds
from tests.training.problems import after_steps, by_hand, regression, same_state

HOW = ds.Recipe(optimizer="sgd", lr=0.05, batch_size=16, epochs=3, seed=2)


def blind(output: Any, target: Any) -> float:
    return math.nan


def fit(folder: Any = False, recipe: ds.Recipe = HOW, **changes: Any) -> ds.Run:
    problem = regression(**({"metric": blind} | changes))
    return ds.fit(problem, recipe, folder=folder, progress=False, observe=0.0)


def test_the_model_is_the_last_one_and_it_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "downslope"):
        run = fit(tmp_path / "r")
    assert (
        caplog.text.count("the metric was NaN at every evaluation: the model is the last, not the best") == 1
    )
    assert run.summary["model"] == "last"
    assert run.summary["best_step"] == run.summary["steps"] == 12
    model, _ = by_hand(regression(valid=None), HOW, lambda p: torch.optim.SGD(p, lr=0.05))
    loaded = ds.load_run(tmp_path / "r", regression(metric=blind))
    for each in (run, loaded):
        for which in (None, "last", "best"):
            for name, value in each.model(which).state_dict().items():  # type: ignore[arg-type]
                torch.testing.assert_close(value, model.state_dict()[name], rtol=1e-5, atol=1e-6)
    x, y = (each.float() for each in regression().valid.batch)
    with torch.no_grad():
        loss = float(((model(x) - y) ** 2).mean())
    assert run.summary["valid_loss"] == pytest.approx(loss, rel=1e-5)


def test_the_first_number_after_nan_is_the_best(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[float] = []

    def late(output: Any, target: Any) -> float:
        seen.append([math.nan, math.nan, 5.0, 1.0][len(seen)] if len(seen) < 4 else 0.0)
        return seen[-1]

    with caplog.at_level(logging.WARNING, "downslope"):
        run = fit(metric=late)
    assert (run.summary["model"], run.summary["best_step"]) == ("best", 8)
    assert not caplog.text
    assert not same_state(run.model("best").state_dict(), run.model("last").state_dict())


def test_an_interrupted_blind_run_goes_on_to_the_same_model(tmp_path: Path) -> None:
    import signal

    from downslope.training.fit import resume

    taken: list[int] = []

    def press(model: Any) -> None:
        taken.append(1)
        if len(taken) == 6:
            signal.raise_signal(signal.SIGINT)

    whole = fit()
    with after_steps(press):
        assert fit(tmp_path / "r").status == "interrupted"
    again = resume(tmp_path / "r", regression(metric=blind), progress=False)
    assert again.summary["model"] == "last"
    for which in ("last", "best"):
        assert same_state(again.model(which).state_dict(), whole.model(which).state_dict())  # type: ignore[arg-type]
