"""Noisy gradient: batches so small that the steps wander, and noise that does no harm."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import downslope as ds
from downslope.core.budget import Budget
from downslope.core.edits import SetRecipe
from downslope.core.finding import Finding
from downslope.core.run import Run
from downslope.data import digits
from downslope.diagnosis.contest import Contest
from downslope.diagnosis.symptom import Clear, Unknown
from downslope.diagnosis.symptoms.noisy_gradient import noisy_gradient
from downslope.diagnosis.yardstick import Yardstick
from tests.diagnosis.runs import run
from tests.diagnosis.symptoms.problems import Functional, Pair, diagnosed, net, problem, recipe
from tests.diagnosis.symptoms.trying import FAR, finding, tried

DIGITS = digits(scale=16.0, seed=1)
PARTS: tuple[Pair, Pair] = (DIGITS.train, DIGITS.valid)  # type: ignore[assignment]


def batches(size: int, lr: float, make: Any = lambda: net(64, 10)) -> Any:
    task = problem(PARTS, make, "cross_entropy", "accuracy")
    return task, recipe(optimizer="sgd", lr=lr, momentum=0.9, steps=500, batch_size=size)


def test_batches_of_one_are_the_root_and_a_remedy_recovers_most() -> None:
    task, how = batches(1, 0.02)
    result = diagnosed(task, how)
    assert result.root is not None
    assert result.root.symptom == "noisy-gradient"
    assert result.root.evidence.value > 10
    cured = diagnosed(*result.root.remedies[0].apply(task, how))
    before, after = (each.run.summary["valid_metric"] for each in (result, cured))
    assert after > before + 0.2


@pytest.mark.parametrize("given", [(32, 0.05), (4, 0.01)], ids=["batches of 32", "batches of 4, small steps"])
def test_the_usual_batch_and_small_steps_are_healthy(given: tuple[int, float]) -> None:
    assert diagnosed(*batches(*given, make=lambda: Functional(64, 10))).healthy


def noisy(ratio: float | None, final: float = 1.5, share: float | None = None) -> Run:
    noise = {"scale": None if ratio is None else 4 * ratio, "batch": 4, "ratio": ratio, "batches": 12}
    made = run(np.geomspace(2.3, final, 200), references=FAR, noise=noise)
    made.recipe = recipe(optimizer="sgd", batch_size=4)
    return tried(made, "noisy-gradient", share)


def test_ten_times_the_batch_is_noisy_and_a_trial_decides() -> None:
    assert isinstance(noisy_gradient(noisy(9.9, share=0.9)), Clear)
    assert finding(noisy_gradient(noisy(10.1, share=0.9))).severity == "warning"
    assert finding(noisy_gradient(noisy(10.1))).severity == "info"
    assert isinstance(noisy_gradient(noisy(10.1, share=0.1)), Clear)
    assert finding(noisy_gradient(noisy(None, share=0.9))).evidence.value > 1e6


def test_the_end_of_a_good_run_and_one_that_learnt_nothing_are_clear() -> None:
    assert isinstance(noisy_gradient(noisy(500.0, final=0.1)), Clear)
    assert isinstance(noisy_gradient(noisy(500.0, final=2.25)), Clear)


def test_the_remedies_are_a_schedule_and_eight_times_the_batch() -> None:
    told = finding(noisy_gradient(noisy(50.0)))
    assert told.remedies == (
        SetRecipe({"schedule": "cosine"}),
        SetRecipe({"batch_size": 32}, {"batch_size": 4}),
    )


@pytest.mark.parametrize(
    ("ratio", "low", "high", "kind"),
    [
        (5.0, 3.0, 8.0, Clear), (9.0, 6.0, 14.0, Unknown), (5.0, 2.0, None, Unknown),
        (11.0, 7.0, None, Finding), (30.0, 12.0, 90.0, Finding),
    ],
)  # fmt: skip
def test_a_verdict_does_not_flip_within_the_standard_error(
    ratio: float, low: float, high: float | None, kind: type
) -> None:
    """Below the limit it is cleared only where the error leaves it below; above it a trial decides."""
    made = noisy(ratio, share=0.9)
    made.facts["noise"] |= {"low": low, "high": high}
    verdict = noisy_gradient(made)
    assert isinstance(verdict, kind)
    if isinstance(verdict, Finding):
        assert f"{low:.2g}" in verdict.message
    made = noisy(ratio, final=0.1)
    made.facts["noise"] |= {"low": low, "high": high}
    assert isinstance(noisy_gradient(made), Clear)


def curved(curvature: float, slope: float = 0.5, share: float | None = None, final: float = 1.5) -> Run:
    halved = {"batch": 4, "step": 1, "slope": slope, "curvature": curvature, "needed": 8}
    made = run(np.geomspace(2.3, final, 200), references=FAR, halves=halved)
    made.recipe = ds.Recipe(optimizer="lbfgs", batch_size=4, epochs=20)
    return tried(made, "noisy-gradient", share)


def test_halves_of_a_batch_that_differ_are_a_suspicion_and_far_apart_a_warning_and_a_trial_decides() -> None:
    found = finding(noisy_gradient(curved(0.6)))
    assert found.severity == "info"
    assert (found.evidence.value, found.evidence.threshold) == (0.6, 0.5)
    assert found.remedies == (
        SetRecipe({"batch_size": 8, "steps": 100}, {"batch_size": 4, "epochs": 20}),
        SetRecipe({"batch_size": "full", "steps": 100}, {"batch_size": 4, "epochs": 20}),
    )
    assert finding(noisy_gradient(curved(0.1, 2.5))).severity == "warning"
    assert finding(noisy_gradient(curved(0.1, 2.5))).evidence.threshold == 1.0
    assert finding(noisy_gradient(curved(0.6, share=0.5))).severity == "warning"
    assert isinstance(noisy_gradient(curved(2.0, share=0.1)), Clear)
    assert isinstance(noisy_gradient(curved(2.0, final=0.1)), Clear)


def test_small_batches_of_a_method_that_divides_by_curvature_are_the_cause_told_once_and_the_twin_is_healthy(
    caplog: pytest.LogCaptureFixture,
) -> None:
    task = problem(PARTS, lambda: net(64, 10), "cross_entropy", "accuracy")
    how = recipe(optimizer="lbfgs", batch_size=8, steps=40)
    result = diagnosed(task, how)
    assert len([each for each in caplog.records if "two halves" in each.message]) == 1
    assert result.root is not None
    assert result.root.symptom == "noisy-gradient"
    assert result.root.evidence.value == result.run.facts["halves"]["curvature"]
    assert result.root.remedies[0].changes["batch_size"] > 8
    cured = diagnosed(*result.root.remedies[0].apply(task, how))
    assert cured.run.summary["train_loss"] < 0.5 * result.run.summary["train_loss"]
    caplog.clear()
    contest = Contest(task, how, Yardstick(task, result), Budget("15 steps"), None, 1)
    assert contest.train([contest.control], 1)
    assert diagnosed(task, how.edit(batch_size="full")).healthy
    assert "two halves" not in caplog.text
