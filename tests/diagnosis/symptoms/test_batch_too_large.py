"""Batch too large: so many examples a step that there are hardly any steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import downslope as ds
from downslope.core.budget import Budget
from downslope.core.edits import SetRecipe
from downslope.core.run import Run
from downslope.data import digits
from downslope.diagnosis.session import Session
from downslope.diagnosis.symptom import Clear, Unknown
from downslope.diagnosis.symptoms.batch_too_large import batch_too_large
from tests.diagnosis.runs import run
from tests.diagnosis.symptoms.problems import (
    Functional,
    Pair,
    diagnosed,
    net,
    numbers,
    problem,
    recipe,
)
from tests.diagnosis.symptoms.trying import FAR, finding, tried

DIGITS = digits(scale=16.0, seed=1)
PARTS: tuple[Pair, Pair] = (DIGITS.train, DIGITS.valid)  # type: ignore[assignment]


def batches(size: int | str, make: Any = lambda: net(64, 10)) -> Any:
    task = problem(PARTS, make, "cross_entropy", "accuracy")
    return task, recipe(optimizer="sgd", lr=0.1, momentum=0.9, batch_size=size, epochs=12)


def test_half_of_the_data_a_step_is_the_root_and_batches_of_32_cure_it() -> None:
    task, how = batches(720)
    result = diagnosed(task, how)
    assert result.root is not None
    assert result.root.symptom == "batch-too-large"
    remedy = result.root.remedies[0]
    assert isinstance(remedy, SetRecipe)
    assert remedy.changes["batch_size"] == 32
    assert diagnosed(*remedy.apply(task, how)).healthy


def test_the_usual_batch_is_healthy() -> None:
    assert diagnosed(*batches(64, lambda: Functional(64, 10))).healthy


def test_all_the_data_a_step_is_healthy_where_there_are_steps_enough() -> None:
    task = problem(PARTS, lambda: net(64, 10), "cross_entropy", "accuracy")
    assert diagnosed(task, recipe(lr=1e-2, batch_size="full", epochs=150)).healthy


def large(batch: int = 512, ratio: float | None = 0.1, steps: int = 30, share: float | None = None) -> Run:
    made = run(np.geomspace(2.3, 1.2, steps), references=FAR, noise={"batch": batch, "ratio": ratio})
    made.recipe = ds.Recipe(optimizer="sgd", lr=0.1, epochs=10, batch_size=batch)
    return tried(made, "batch-too-large", share, longer=True)


def test_it_takes_a_large_batch_beyond_its_noise_and_few_steps() -> None:
    assert finding(batch_too_large(large(share=0.8))).severity == "warning"
    for other in (large(batch=128), large(ratio=0.6), large(ratio=None), large(steps=401)):
        assert isinstance(batch_too_large(other), Clear)


@pytest.mark.parametrize(("share", "told"), [(0.3, "warning"), (None, "info")])
def test_smaller_batches_have_to_win_a_quarter_of_the_way(share: float | None, told: str) -> None:
    assert finding(batch_too_large(large(share=share))).severity == told
    assert isinstance(batch_too_large(large(share=0.2)), Clear)


def remedy(**changes: Any) -> dict[str, Any]:
    made = large(share=0.8)
    assert made.recipe is not None
    made.recipe = ds.Recipe(**({"optimizer": "sgd", "lr": 0.1, "epochs": 10, "batch_size": 512} | changes))
    edit = finding(batch_too_large(made)).remedies[0]
    assert isinstance(edit, SetRecipe)
    return dict(edit.changes)


def test_the_rate_of_smaller_batches_is_that_of_their_noise() -> None:
    """Noise scale 51.2: (1 + 51.2 / 512) / (1 + 51.2 / 32) of the rate, not 32 / 512 of it."""
    assert remedy() == {"batch_size": 32, "lr": pytest.approx(0.1 * 1.1 / 2.6, rel=0.02)}
    assert remedy(batch_size="full") == {"batch_size": 32}  # no rate was chosen for its size


@pytest.mark.parametrize("seed", [2, 3, 4])
def test_numbers_in_one_batch_of_all_the_data_are_told_and_their_twin_is_healthy(seed: int) -> None:
    data = numbers(n=1200, features=4, seed=seed)
    task = problem(data, lambda: net(4, 1), "mse", "r2")
    sick = diagnosed(task, recipe(batch_size="full", epochs=20))
    assert sick.root is not None, str(sick)
    assert sick.root.symptom == "batch-too-large", str(sick)
    assert diagnosed(task, recipe(epochs=20)).healthy


def test_a_trial_of_smaller_batches_is_not_priced_as_one_of_large_ones() -> None:
    task, how = batches("full")
    made = Session(task, how, Budget("2m"), talk=False, folder=False)
    assert made._lighter(SetRecipe({"batch_size": 32})) == pytest.approx((32 / len(PARTS[0][0])) ** 0.5)
    assert made._lighter(SetRecipe({"epochs": 500})) == 1.0
    assert made._lighter(SetRecipe({"batch_size": 10**6})) == 1.0


def test_a_run_counted_in_steps_has_no_more_of_them_in_smaller_batches() -> None:
    made = large()
    made.recipe = ds.Recipe(optimizer="sgd", lr=0.1, batch_size=512, steps=30)
    assert isinstance(batch_too_large(made), Unknown)
