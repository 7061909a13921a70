"""What the budget left no time to try stands under what was not checked, and is never called clear."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import downslope as ds
from downslope.cli.outcome import status_of
from downslope.core import edits
from downslope.core.fixed_sample import scored
from downslope.core.run import Run
from downslope.diagnosis import diagnose as verb
from downslope.diagnosis.judge import judge
from downslope.diagnosis.measure import references
from downslope.diagnosis.unjudged import NO_TIME
from downslope.reporting.console import of_diagnosis
from tests.diagnosis.runs import run


def problem() -> ds.Problem:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(240, 4, generator=generator)
    y = (x[:, 0] + x[:, 1] > 0).long()
    return ds.Problem(
        model=lambda: nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2)),
        objective="cross_entropy", train=(x[:160], y[:160]), valid=(x[160:], y[160:]), metric="accuracy",
    )  # fmt: skip


@pytest.fixture(autouse=True)
def no_time_after_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    measure = verb._Session._measure_ending

    def late(session: verb._Session) -> None:
        measure(session)
        session.limit = time.monotonic()

    monkeypatch.setattr(verb._Session, "_measure_ending", late)


@pytest.mark.parametrize(
    ("lr", "culprit"), [(1e-4, "learning-rate-too-low"), (100.0, "learning-rate-too-high")]
)
def test_the_culprit_is_not_among_the_clear_where_nothing_could_be_tried(lr: float, culprit: str) -> None:
    recipe = ds.Recipe(optimizer="adam", lr=lr, batch_size=16, epochs=20)
    found = ds.diagnose(problem(), recipe, budget="200 steps", folder=False, progress=False)
    assert not found.healthy
    assert culprit not in dict(found.cleared)
    assert culprit in {**dict(found.not_checked), **dict.fromkeys(found.symptoms)}
    left = dict(found.not_checked)
    assert left["plateau"] == left["high-bias"] == NO_TIME
    assert "non-finite-data" in dict(found.cleared)
    assert not found.interrupted


def test_a_run_that_came_far_needs_no_trial_and_keeps_what_is_clear() -> None:
    recipe = ds.Recipe(optimizer="adam", lr=0.01, batch_size=16, epochs=20)
    found = ds.diagnose(problem(), recipe, budget="200 steps", folder=False, progress=False)
    assert found.healthy
    assert "learning-rate-too-low" in dict(found.cleared)


def test_nothing_is_measured_any_more_once_the_budget_is_used_up(monkeypatch: pytest.MonkeyPatch) -> None:
    measure = verb._Session._measure_ending

    def late(session: verb._Session) -> None:
        measure(session)
        session.budget.seconds = session.budget.spent

    monkeypatch.setattr(verb._Session, "_measure_ending", late)
    recipe = ds.Recipe(optimizer="adam", lr=1e-4, batch_size=16, epochs=20)
    found = ds.diagnose(problem(), recipe, budget="60s", folder=False, progress=False)
    facts = found.run.facts
    assert {"ending", "start", "constant"} <= facts.keys()
    assert not {"noise", "ground", "signal", "capacity", "sharpness"} & facts.keys()
    assert dict(found.not_checked)["label-noise"] == NO_TIME
    assert "No time to measure: " in " ".join(str(found).split())


def test_a_reference_that_takes_longer_than_foretold_is_no_reference() -> None:
    recipe = ds.Recipe(optimizer="adam", lr=1e-4, batch_size=16, epochs=20)
    made = ds.fit(problem(), recipe, folder=False, progress=False)
    held = scored(problem())
    found = references.reach(made, "itself", problem(), recipe, edits.SetRecipe({"lr": 0.1}), held, 1e-6)
    assert found["status"] == "cut"
    assert "references" not in made.facts


def far(reached: float, **facts: Any) -> Run:
    rows = [{"what": "a plain network", "loss": 0.01}]
    return run(np.geomspace(2.3, reached, 200), references=rows, **facts)


UNTRIED = {"why": NO_TIME, "interrupted": False, "running": False}


def test_a_run_that_ended_far_and_could_not_be_examined_is_not_known_to_be_healthy() -> None:
    found = judge(far(2.0, unjudged=UNTRIED))
    assert found.verdict.startswith("ENDED FAR")
    assert found.root is None
    assert not found.healthy
    assert status_of(found) == 1
    told = " ".join(row.text for row in of_diagnosis(found))
    for said in (told, str(found)):
        assert "why is not known" in said
        assert "nothing to fix" not in said
        assert "Healthy" not in said


@pytest.mark.parametrize(
    "made",
    [
        far(2.0),
        far(0.8, unjudged=UNTRIED),
        far(0.02, unjudged=UNTRIED),
        run(np.geomspace(2.3, 1.9, 200), unjudged=UNTRIED),
    ],
    ids=["all was tried", "slow", "learnt", "nothing to compare with"],
)
def test_a_run_that_was_examined_or_came_half_way_is_healthy(made: Run) -> None:
    assert judge(made).healthy
