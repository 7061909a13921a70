"""Header and verdict tell what was really done: the loader's own batches, one story of a short run."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler

import downslope as ds
from downslope.diagnosis.judge import judge
from downslope.reporting import console, facts
from downslope.reporting.rows import render
from tests.diagnosis.test_progress import at

X = torch.rand(600, 16, generator=torch.Generator().manual_seed(2))


def unlabelled(loader: Any) -> ds.Problem:
    return ds.Problem(
        model=lambda: nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 16)), objective="mse",
        train=loader,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("loader", "said"),
    [
        (lambda: DataLoader(X, batch_size=32, shuffle=True), "batch 32"),
        (
            lambda: DataLoader(X, batch_sampler=BatchSampler(SequentialSampler(X), 30, False)),
            "batch of the DataLoader's sampler",
        ),
    ],
)
def test_the_header_has_the_loaders_own_batches(loader: Any, said: str, tmp_path: Any) -> None:
    recipe = ds.Recipe(optimizer="sgd", lr=0.1, epochs=1)
    run = ds.fit(unlabelled(loader()), recipe, folder=tmp_path / "run", progress=False)
    assert said in facts.recipe(run)
    assert "batch 64" not in render(console.header(run))
    assert render(console.of_run(run)).split()[1] == ("19/19" if "32" in said else "20/20")
    run.problem = None  # as a run is that comes from its folder
    assert said in facts.recipe(run)


def test_a_run_that_more_steps_take_further_is_told_as_one_story() -> None:
    loader = DataLoader(X, batch_size=32, shuffle=True)
    found = ds.diagnose(
        unlabelled(loader), ds.Recipe(optimizer="adam", lr=1e-2, epochs=2), folder=False, progress=False
    )
    assert found.findings[0].symptom == "too-few-steps", str(found)
    assert found.verdict.startswith("STOPPED WHILE LEARNING")
    assert "more steps take it to" in found.verdict


def test_a_run_beside_which_nothing_got_anywhere_is_not_closed_as_having_nothing_to_fix() -> None:
    short = ds.diagnose(at(1.95, 1.85))
    assert short.healthy
    assert short.verdict.startswith("NOTHING REACHABLE")
    told = render(console.of_diagnosis(short))
    assert "healthy, nothing to fix" not in told
    assert "too short, or the data has little to learn" in told


def test_the_losses_of_the_best_and_of_the_last_model_are_told_apart() -> None:
    digits = ds.data.digits(scale=16)
    problem = ds.Problem(
        model=lambda: nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)),
        objective="cross_entropy", train=digits.train, valid=digits.valid, metric="accuracy",
    )  # fmt: skip
    recipe = ds.Recipe(optimizer="adam", lr=0.5, batch_size=64, epochs=6)
    run = ds.fit(problem, recipe, folder=False, progress=False)
    assert run.summary["best_step"] != run.summary["steps"]
    told = render(console.of_run(run), 200)
    final = judge(run).verdict.partition("loss ")[2].partition(",")[0].split()[0]
    assert f"at step {run.summary['best_step']}; at the end batch loss {final}" in told
