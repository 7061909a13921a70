"""The measurement at the end of a run: of how many examples, in what time, and what is said of it."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import downslope as ds
from downslope.core.fixed_sample import SCORED
from downslope.core.sources import Memory
from downslope.data.windows import Windows
from downslope.reporting import facts
from downslope.training import progress
from downslope.training.deadline import LEAST, Deadline
from downslope.training.evaluate import evaluate
from downslope.training.progress import Progress

N = 3 * SCORED
X = torch.linspace(-1.0, 1.0, N)[:, None]
Y = 3 * X + torch.randn(N, 1, generator=torch.Generator().manual_seed(0))
LINE = ds.Problem(
    model="linear", objective="squared_error", train=(X, Y), valid=(X[::250], Y[::250]), metric="mae"
)
HOW = ds.Recipe(optimizer="sgd", lr=0.1, batch_size=16, steps=30)


def fit(problem: ds.Problem = LINE, recipe: ds.Recipe = HOW, **more: Any) -> ds.Run:
    return ds.fit(problem, recipe, folder=False, progress=False, observe=0.0, **more)


def test_a_run_that_saw_a_part_of_the_data_is_judged_on_a_drawn_part_and_says_of_how_many() -> None:
    run = fit()
    whole = evaluate(LINE, run.model())
    assert run.summary["train_n"] == SCORED
    error = run.summary["train_loss_stderr"]
    assert error == pytest.approx(whole.stderr * math.sqrt(N / SCORED), rel=0.1)
    assert 0 < abs(run.summary["train_loss"] - whole.loss) < 4 * error  # its first third alone is far off
    first = evaluate(LINE, run.model(), Memory((X[:SCORED], Y[:SCORED])))
    assert abs(first.loss - whole.loss) > 4 * error or abs(float(X[:SCORED].mean())) > 0.5
    assert f"(on {SCORED:,} of {N:,})" in facts.result(run)
    assert run.summary["train_loss"] == fit().summary["train_loss"]


def test_a_run_that_saw_all_of_the_data_is_judged_on_all_of_it() -> None:
    run = fit(recipe=HOW.edit(epochs=1, batch_size=256, lr=0.1))
    assert "train_n" not in run.summary
    assert run.summary["train_loss"] == pytest.approx(evaluate(LINE, run.model()).loss, rel=1e-9)
    assert " of " not in facts.result(run)
    small = LINE.edit(train=(X[:500], Y[:500]))
    assert "train_n" not in fit(small, HOW.edit(steps=2)).summary


@pytest.mark.parametrize("kind", ["loader", "windows"])
def test_a_part_of_what_is_read_in_pieces_is_a_pass_in_random_order_that_ends_early(kind: str) -> None:
    if kind == "loader":
        shuffled = DataLoader(TensorDataset(X, Y), batch_size=100, shuffle=True)
        problem = LINE.edit(train=shuffled)
        run, wanted = fit(problem), 41 * 100
    else:
        tokens = torch.randint(5, (4 * (SCORED + 2000) + 1,), generator=torch.Generator().manual_seed(0))
        problem = ds.Problem(
            model=lambda: nn.Sequential(nn.Embedding(5, 8), nn.Linear(8, 5)),
            objective="cross_entropy",
            train=Windows(tokens, 4, 5),
        )
        run, wanted = fit(problem), SCORED
    assert run.summary["train_n"] == wanted
    whole = evaluate(problem, run.model())
    assert run.summary["train_loss"] == pytest.approx(whole.loss, abs=5 * run.summary["train_loss_stderr"])


def test_training_ends_early_enough_that_the_last_look_fits_in() -> None:
    at = {"now": 0.0}

    class Timed(Deadline):
        @property
        def left(self) -> float:
            return self.seconds - at["now"]

    deadline = Timed(10.0, train=60_000, valid=1000)
    at["now"] = 9.9
    assert not deadline.over(0)  # nothing is known of the price yet
    deadline.took(2.0, 1000)
    deadline.took(0.5, 1000)  # the latest counts
    at["now"] = 8.4
    assert not deadline.over(10**6)  # 0.5 s for the validation data, a tenth of the time for the rest
    at["now"] = 8.6
    assert deadline.over(10**6)
    at["now"] = 9.0
    assert deadline.judged(10**6) == 2000  # what fits into a second
    at["now"] = 12.0
    assert deadline.judged(10**6) == LEAST
    assert Deadline(None, train=60_000, valid=0).judged(10**6) is None
    assert Deadline(None, train=60_000, valid=0).judged(6000) == 6000
    assert Deadline(None, train=None, valid=0).judged(0) is None
    assert not Deadline(None, train=60_000, valid=0).over(0)


def test_a_limit_of_time_bounds_the_last_look_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Deadline, "left", property(lambda self: 0.0))
    run = fit(recipe=HOW.edit(steps=None, epochs=3), seconds=1.0)
    assert run.summary["train_n"] == LEAST
    assert run.facts["cut"]["steps"] == 1


def test_the_last_look_at_the_validation_data_is_taken_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []

    def metric(output: torch.Tensor, target: torch.Tensor) -> float:
        looks.append(len(output))
        return float((output - target).abs().mean())

    problem = LINE.edit(train=(X[:64], Y[:64]), metric=metric, metric_goal="min")
    run = fit(problem, HOW.edit(steps=4, lr=1e-3))
    assert run.summary["best_step"] == 4
    assert looks.count(50) == 2  # untrained, and at the end
    assert run.summary["valid_metric"] == run.history.last("valid_metric")
    assert run.summary["valid_loss_stderr"] > 0


def test_a_long_last_look_tells_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    ds.fit(LINE, HOW.edit(steps=2), folder=False, observe=0.0)
    err = capsys.readouterr().err
    assert re.search(r"^fit 0/2 steps, .*evaluating 50/50$", err, re.MULTILINE), err
    assert re.search(rf"^evaluating 1024/{SCORED} examples, \d+ examples/s, .* left$", err, re.MULTILINE), err


def test_what_is_brief_leaves_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("evaluating", 3, unit="examples", brief=True) as bar:
        bar.update(3)
    assert capsys.readouterr().err == ""
