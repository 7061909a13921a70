"""The contest of a repair: the same seeds for all, the budget kept by control and remedies alike."""

from __future__ import annotations

import pytest

import downslope as ds
from downslope.core import edits
from downslope.core.budget import Budget
from downslope.core.run import Run
from downslope.diagnosis import contest as module
from downslope.diagnosis.contest import Arm, Contest, check_possible
from downslope.diagnosis.diagnosis import Diagnosis
from downslope.diagnosis.finished import look
from downslope.diagnosis.yardstick import Yardstick
from downslope.training.price import Price
from tests.training.problems import classification, regression

HOW = ds.Recipe(optimizer="sgd", lr=0.05, batch_size=10, epochs=8)  # 40 steps
HALF = edits.SetRecipe({"lr": 0.025})
LONG = edits.SetRecipe({"epochs": 80})


def contest(
    problem: ds.Problem, budget: str = "1000000 steps", second: float = 0.0, runs: int = 4
) -> Contest:
    """A contest about `problem` whose steps take `second` seconds each."""
    run = Run(problem=problem, recipe=HOW)
    look(run, problem, HOW)
    yard = Yardstick(problem, Diagnosis(run=run))
    return Contest(problem, HOW, yard, Budget(budget), Price(40, second, 0.0, 8.0), runs)


def lengths(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The steps of every run that a contest trains from now on."""
    seen: list[int] = []
    train = module.fit_population

    def counted(*given: object, **more: object) -> list[Run]:
        runs = train(*given, **more)  # type: ignore[arg-type]
        seen.extend(int(run.summary["steps"]) for run in runs)
        return runs

    monkeypatch.setattr(module, "fit_population", counted)
    return seen


def test_a_budget_in_steps_holds_for_the_control_and_for_every_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps = lengths(monkeypatch)
    made = contest(regression(), "25 steps")
    assert made.train([made.control, made.arm(HALF), made.arm(LONG)], 0)
    assert steps == [25, 25, 25]


def test_a_budget_in_seconds_cuts_the_trials_so_that_they_fit() -> None:
    made = contest(regression(), "120s", second=1.0)
    assert made.cut in (24, 25)  # 120 s, four trials, a second a step, a fifth in hand
    assert contest(regression(), "1000s", second=1.0).cut is None
    assert "too few to tell" in check_possible(contest(regression(), "20s", second=1.0))
    assert check_possible(made) == ""


def test_what_does_not_fit_is_left_out_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = lengths(monkeypatch)
    made = contest(regression(), "110s", second=1.0, runs=1)
    arms = [made.control, made.arm(HALF), made.arm(edits.SetRecipe({"lr": 0.1}))]  # 48 s each
    assert not made.train(arms, 0)
    assert steps == [40, 40]
    assert not arms[2].scores


def test_what_is_held_back_for_a_proof_is_not_spent_before(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = lengths(monkeypatch)
    made = contest(regression(), "110s", second=1.0, runs=1)
    made.held_back = 50.0
    assert not made.train([made.control, made.arm(HALF)], 0)  # 48 s each
    assert steps == [40]
    made.held_back = 0.0
    assert made.train([made.control, made.arm(HALF)], 0)


def test_an_arm_scores_what_its_run_scores_alone() -> None:
    problem = regression()
    made = contest(problem)
    arm = made.arm(HALF)
    made.train([made.control, arm], 3)
    run = ds.fit(problem, HOW.edit(lr=0.025, seed=3), folder=False, progress=False)
    assert arm.scores == {3: pytest.approx(max(run.history["valid_metric"][1:].tolist()[4::5]))}
    assert made.gains(arm) == [pytest.approx(arm.scores[3] - made.control.scores[3])]


def test_the_diagnosed_run_is_the_controls_of_its_seed() -> None:
    problem = regression()
    trained, taken = contest(problem), contest(problem)
    trained.train([trained.control], 0)
    taken.seen(ds.fit(problem, HOW, folder=False, progress=False), 0)
    assert taken.control.scores == trained.control.scores


def test_a_remedy_that_cannot_be_trained_says_why_and_ends_nobody_else() -> None:
    made = contest(classification())
    wrong = made.arm(edits.SetObjective("mse"))
    misnamed = made.arm(edits.ReplaceModule("nowhere", "torch.nn:ReLU"))
    assert made.train([made.control, wrong, misnamed, made.arm(HALF)], 0)
    assert "nowhere" in misnamed.error
    assert wrong.error or wrong.scores
    assert made.arm(HALF).scores


def test_the_seed_that_chose_an_arm_proves_nothing_of_it() -> None:
    made = contest(regression())
    made.control.scores = {0: 0.1, 1: 0.1, 2: 0.1}
    arm = Arm(HALF, made.control.problem, HOW, scores={0: 0.9, 1: 0.1, 2: 0.1}, chosen_by=0)
    assert made.gains(arm) == [0.0, 0.0]
    arm.chosen_by = None
    assert made.gains(arm) == pytest.approx([0.8, 0.0, 0.0])


def test_a_gain_that_is_certain_and_tiny_is_not_worth_a_change() -> None:
    made = contest(regression())  # r2, from about 0 to 1
    made.control.scores = {0: 0.5, 1: 0.5, 2: 0.5}
    tiny = Arm(HALF, made.control.problem, HOW, scores={0: 0.505, 1: 0.505, 2: 0.506})
    assert made.gain(tiny).sure
    assert not made.proved(tiny)
    tiny.scores = {0: 0.55, 1: 0.55, 2: 0.56}
    assert made.proved(tiny)


def test_an_interval_leads_to_no_score_that_the_metric_cannot_take() -> None:
    made = contest(classification())
    arm = made.arm(HALF)
    made.control.scores = {0: 0.1, 1: 0.6, 2: 0.35}
    arm.scores = {0: 0.97, 1: 0.97, 2: 0.97}
    gain = made.trial(arm, arm).gain
    assert gain.mean == pytest.approx(0.62)
    assert gain.high == pytest.approx(0.65)  # from 0.35 to 1; by Student's t 1.24
    assert gain.low == pytest.approx(-0.0011, abs=1e-4)
    other = contest(regression())  # of an R2 the most is 1, and the least has no end
    half = other.arm(HALF)
    other.control.scores, half.scores = {0: 0.9, 1: -2.0}, {0: 0.95, 1: 0.95}
    assert other.trial(half, half).gain.high == pytest.approx(1.0 + 0.55)
    assert other.trial(half, half).gain.low < -10.0
