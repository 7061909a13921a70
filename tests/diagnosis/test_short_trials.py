"""Where time is short, trials beside a run that stood are short, and the strongest evidence comes first."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from torch import nn

import downslope as ds
from downslope.core.budget import Budget
from downslope.core.edits import Reinitialise, SetRecipe
from downslope.core.finding import Evidence, Finding, Severity
from downslope.core.fixed_sample import scored
from downslope.core.run import Run
from downslope.diagnosis import diagnose as verb
from downslope.diagnosis import session as module
from downslope.diagnosis.session import Session
from downslope.diagnosis.stood import leaves_the_guess, stood
from downslope.diagnosis.turns import Turns
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


def stand(seconds: float) -> Turns:
    """A run of ten seconds at a guess, and so much time that is left."""
    session = Turns(problem(), RECIPE, Budget("60s"), False, False)
    session.run = run()
    session.run.facts |= {"seconds": 10.0, "ending": {"train_loss": 2.3}, "trials": {}}
    session.held = scored(session.problem)
    session.limit = time.monotonic() + seconds
    return session


def test_a_short_trial_that_settles_nothing_leaves_its_time_to_other_rates(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[int] = []

    def attempt(problem: Any, recipe: Any, edit: Any, steps: int, *rest: Any) -> dict[str, Any]:
        made.append(steps)
        return short(2.3)

    monkeypatch.setattr(module, "attempt", attempt)
    session = stand(25.0)
    asked = replace(finding("init-scale", "info"), remedies=(Reinitialise("auto"),))
    session._try(asked)
    assert made == [40]
    assert session.put_off == {"init-scale"}
    assert not session.run.facts["trials"]
    session.run.facts["rates"] = {}
    session._try(asked)
    assert made == [40, 40, 200]
    assert session.run.facts["trials"]["init-scale"]["full"]
    del session.run.facts["rates"]
    session._try(replace(asked, severity="critical"))  # by itself enough for a warning: it waits for no rates
    assert made == [40, 40, 200, 40, 200]


@pytest.mark.parametrize(
    ("seconds", "loss", "proof"), [(4.0, 0.8, True), (4.0, 2.25, False), (1e3, 0.8, False)]
)
def test_the_short_trial_of_a_rate_counts_where_no_time_is_left_for_another(
    seconds: float, loss: float, proof: bool
) -> None:
    session = stand(seconds)
    scores = [{"loss": loss, "valid_loss": loss, "valid_metric": 0.1 if loss > 2 else 0.8}]
    session.run.facts["rates"] = {"tried": [(0.01, loss)], "scores": scores, "steps": 30}
    found = session._as_rate(SetRecipe({"lr": 0.01}, {"lr": 0.1}))
    assert (found is not None) == proof
    if found is not None:
        assert found["steps"] == 30
        assert found["share"] == 1.0
        assert not found["full"]
