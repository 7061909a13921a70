"""Batch too large: so many examples a step that there are hardly any steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import downslope as ds
from downslope.core.edits import SetRecipe
from downslope.core.run import Run
from downslope.data import digits
from downslope.diagnosis.symptom import Clear, Unknown
from downslope.diagnosis.symptoms.batch_too_large import batch_too_large
from tests.diagnosis.runs import run
from tests.diagnosis.symptoms.problems import Functional, Pair, diagnosed, net, problem, recipe
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


@pytest.mark.parametrize(("share", "told"), [(0.6, "warning"), (None, "info")])
def test_more_steps_have_to_buy_half_of_the_way(share: float | None, told: str) -> None:
    assert finding(batch_too_large(large(share=share))).severity == told
    assert isinstance(batch_too_large(large(share=0.45)), Clear)


def test_a_run_counted_in_steps_has_no_more_of_them_in_smaller_batches() -> None:
    made = large()
    made.recipe = ds.Recipe(optimizer="sgd", lr=0.1, batch_size=512, steps=30)
    assert isinstance(batch_too_large(made), Unknown)
