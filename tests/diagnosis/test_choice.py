"""What a repair keeps: no larger change than is certain to pay, and nothing that is not settled."""

from __future__ import annotations

import math
from typing import Any

import pytest

import downslope as ds
from downslope.core import edits
from downslope.core.budget import Budget
from downslope.core.edits import Edit
from downslope.core.finding import Evidence, Finding
from downslope.diagnosis import choice as module
from downslope.diagnosis.choice import UNSETTLED, Choice
from downslope.diagnosis.contest import Arm
from downslope.diagnosis.diagnosis import Diagnosis
from downslope.diagnosis.mending import BY_HAND, TOO_LATE, Mending
from downslope.diagnosis.repair import Repair
from tests.diagnosis.test_contest import HOW, contest
from tests.training.problems import classification, regression

RATE = edits.SetRecipe({"lr": 0.025})
LARGER = edits.Combined((RATE, edits.StandardiseInputs()))


def choice() -> Choice:
    """Of a control that three seeds score 0.1."""
    made = contest(regression())  # r2, from about 0 to 1
    made.control.scores = dict.fromkeys((0, 1, 2, 3), 0.1)
    made.yard.known = [0.95]
    return Choice(made, Diagnosis(run=made.yard.run), (0, 1, 2), lambda _: None)


def put(into: Choice, edit: Edit, *scores: float, chosen_by: int | None = None) -> Arm:
    arm = Arm(edit, into.contest.control.problem, HOW, dict(enumerate(scores)), chosen_by=chosen_by)
    into.contest.arms[str(edit)] = arm
    (into.raced if chosen_by is None else into.looked).append(arm)
    return arm


def mending(made: Choice) -> Mending:
    """That would tune what `made` has proved so far."""
    result = Repair(problem=made.contest.control.problem, recipe=HOW, diagnosis=made.diagnosis)
    going = Mending(result, 3, made.contest.budget, talk=False)
    going.contest, going.choice = made.contest, made
    return going


@pytest.mark.parametrize(("more", "larger"), [((0.95, 0.93, 0.97), False), ((0.95, 0.96, 0.955), True)])
def test_a_larger_change_must_be_surely_ahead_of_a_smaller_one_that_comes_close(
    more: tuple[float, ...], larger: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "small", lambda *_: False)
    made = choice()
    rate = put(made, RATE, 0.92, 0.93, 0.925)
    both = put(made, LARGER, 0.99, *more, chosen_by=0)
    both.scores[3], rate.scores[3] = more[2], 0.925
    assert made.contest.gain(both).mean > made.contest.gain(rate).mean + made.material
    assert made.final() is (both if larger else rate)


def test_a_larger_change_that_wins_what_the_smaller_left_is_kept_by_the_mean(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "small", lambda *_: False)
    made = choice()
    put(made, RATE, 0.6, 0.7, 0.65)
    assert made.final() is not None
    both = put(made, LARGER, 0.9, 0.72, 0.9)
    assert made.final() is both


def test_after_ctrl_c_nothing_is_trained_and_an_unsettled_gain_is_not_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(module, "small", lambda *_: True)
    monkeypatch.setattr(module, "elsewhere", lambda *given: asked.append(given))
    made = choice()
    arm = put(made, RATE, 0.2, 0.21, 0.2)
    made.interrupted = True
    assert made.final() is None
    assert not asked
    told = made.contest.trial(arm, None)
    assert told.verdict == "not confirmed"
    assert UNSETTLED in str(told)


def test_ctrl_c_among_the_other_splits_leaves_that_gain_unsettled(monkeypatch: pytest.MonkeyPatch) -> None:
    def press(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "small", lambda *_: True)
    monkeypatch.setattr(module, "elsewhere", press)
    made = choice()
    put(made, RATE, 0.2, 0.21, 0.2)
    assert made.final() is None
    assert made.interrupted


@pytest.mark.parametrize("symptom", ["dataset-shift", "mixed-examples"])
def test_nothing_is_fitted_to_a_fault_in_the_data_that_only_a_person_can_mend(symptom: str) -> None:
    sick = classification()
    found = ds.diagnose(sick, HOW, budget="40 steps", progress=False, folder=False)
    by_hand = edits.Advice("put the columns of the held-out data into the order of training")
    evidence = Evidence(name="share", value=1.0, threshold=0.5)
    found.findings = [
        Finding(symptom=symptom, title=symptom, severity="critical", evidence=evidence, remedies=(by_hand,))
    ]
    fixed = ds.repair(sick, HOW, diagnosis=found, budget="40 steps", progress=False, folder=False)
    assert fixed.kept is None
    assert not fixed.trials
    assert not fixed.screened
    assert BY_HAND in fixed.notes
    assert str(by_hand) in str(fixed)


def test_the_seed_that_chose_among_moves_proves_none_of_them_though_a_remedy_is_proved() -> None:
    made = choice()
    going = mending(made)
    base = put(made, RATE, 0.6, 0.7, 0.65)
    assert made.best is base
    lucky, better = (made.contest.arm(edits.SetRecipe({"lr": each})) for each in (0.05, 0.06))
    lucky.scores, better.scores = {0: 0.95, 1: 0.5, 2: 0.5, 3: 0.5}, {0: 0.8, 1: 0.8, 2: 0.8, 3: 0.8}
    base.scores[3] = 0.65
    going._noted([lucky, better])
    going._confirm(base)
    assert made.contest.trial(lucky, None).seeds == (1, 2, 3)
    assert made.contest.gain(lucky).mean == pytest.approx(0.4)
    assert made.best is better


@pytest.mark.parametrize(("seconds", "tried"), [(300, [0.025]), (120, [])])
def test_a_move_whose_proof_does_not_fit_is_not_tried_and_keeps_no_other_from_being_tried(
    seconds: int, tried: list[float]
) -> None:
    made = choice()
    made.contest.budget, made.contest.per_step, made.contest.full = Budget(seconds), 0.8, 40  # 38 s a trial
    made.contest.cut = None
    going = mending(made)
    long = edits.SetRecipe({"epochs": 800})
    assert going._from(made.contest.control, [long, RATE]) is None or tried
    assert [each.recipe.lr for each in made.looked] == tried
    assert (TOO_LATE in going.result.notes) is (not tried)


@pytest.mark.parametrize(("seconds", "said"), [(120, "a budget of 7m"), (math.inf, "")])
def test_where_nothing_is_proved_by_trials_that_were_cut_the_budget_for_whole_ones_is_told(
    seconds: float, said: str
) -> None:
    made = choice()
    put(made, RATE, 0.1, 0.3, 0.1)
    made.contest.per_step, made.contest.full, made.contest.cut = 0.45, 40, 20
    going = mending(made)
    going.begun, going.budget.seconds = 10.0, seconds
    going._close()
    assert going.result.kept is None
    assert any(said in each for each in going.result.notes) if said else not going.result.notes
