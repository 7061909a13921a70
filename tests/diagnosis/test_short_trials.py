"""Where time is short, trials beside a run that stood are short, and the strongest evidence comes first."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from torch import nn

import downslope as ds
from downslope.core.finding import Evidence, Finding, Severity
from downslope.core.run import Run
from downslope.diagnosis import diagnose as verb
from downslope.diagnosis.budget import Budget
from downslope.diagnosis.session import Session
from downslope.diagnosis.stood import leaves_the_guess, stood
from tests.diagnosis.runs import learnt, run
from tests.diagnosis.symptoms.problems import classes

PARTS = classes(count=3)


def network() -> nn.Module:
    model = nn.Sequential(nn.Linear(12, 24), nn.Tanh(), nn.Linear(24, 24), nn.Tanh(), nn.Linear(24, 3))
    for p in model.parameters():
        nn.init.zeros_(p)
    return model


def problem() -> ds.Problem:
    (x, y), valid = PARTS
    return ds.Problem(model=network, objective="cross_entropy", train=(x, y), valid=valid, metric="accuracy")


RECIPE = ds.Recipe(optimizer="sgd", lr=0.1, momentum=0.9, batch_size=45, epochs=40)


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole trial costs more than the time that is left allows, a half of one not."""
    measure = verb._Session._measure_ending

    def late(session: verb._Session) -> None:
        measure(session)
        session.limit = time.monotonic() + 300

    monkeypatch.setattr(verb._Session, "_measure_ending", late)
    monkeypatch.setattr(Session, "_cost", lambda session, share: 250 * share)


@pytest.mark.usefixtures("hurried")
def test_a_short_trial_that_leaves_the_guess_behind_is_proof_enough() -> None:
    found = ds.diagnose(problem(), RECIPE, budget="400 steps", folder=False, progress=False)
    assert found.root is not None
    assert found.root.symptom == "symmetric-init"
    assert found.root.severity == "critical"
    assert found.run.facts["trials"]["symmetric-init"]["steps"] == 80


def test_with_time_at_hand_the_trial_is_as_long_as_the_run() -> None:
    found = ds.diagnose(problem(), RECIPE, budget="400 steps", folder=False, progress=False)
    assert found.run.facts["trials"]["symmetric-init"]["steps"] == 400


def short(loss: float | None, **changes: Any) -> dict[str, Any]:
    return {"loss": loss, "share": 1.0, "valid_share": 1.0} | changes


def test_a_short_trial_has_to_leave_the_guess_by_more_than_a_run_that_stands() -> None:
    made = run()
    assert stood(made)
    assert leaves_the_guess(made, short(1.8))
    assert not leaves_the_guess(made, short(1.9))
    assert not leaves_the_guess(made, short(1.0, valid_share=0.0))
    assert not leaves_the_guess(made, short(None))
    made.facts["output"]["expects"] = None  # of an objective without a known floor no way is known
    assert not leaves_the_guess(made, short(1.0))


@pytest.mark.parametrize("made", [learnt(), run(np.r_[2.3, np.full(50, np.inf)])], ids=["learnt", "lost"])
def test_a_run_that_moved_did_not_stand(made: Run) -> None:
    assert not stood(made)


def finding(name: str, severity: Severity) -> Finding:
    evidence = Evidence(name="a number", value=1.0, threshold=0.5)
    return Finding(symptom=name, title=name, severity=severity, evidence=evidence, message="")


@pytest.mark.parametrize(("left", "first"), [(1.0, "vanishing-gradient"), (1e3, "unscaled-inputs")])
def test_the_strongest_evidence_comes_first_only_where_not_all_can_be_tried(left: float, first: str) -> None:
    session = Session(problem(), RECIPE, Budget("60s"), False, False)
    session.run.facts["seconds"], session.run.status = 10.0, "done"
    session.limit = time.monotonic() + left
    weak = [finding(name, "info") for name in ("init-scale", "unscaled-inputs")]
    suspects = [*weak, finding("vanishing-gradient", "critical")]
    assert session._in_turn(suspects)[0].symptom == first
