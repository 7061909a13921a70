"""Uninformative inputs: what two rankings allow to be said."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from downslope.core.run import Run
from downslope.diagnosis.symptom import Clear, Unknown
from downslope.diagnosis.symptoms.uninformative_inputs import uninformative_inputs
from tests.diagnosis.runs import run
from tests.diagnosis.symptoms.trying import finding


def guessing(z: float, n: int = 1000, **more: float) -> Run:
    """A run that guesses on held-out data, and how the targets were ranked by others."""
    ending: dict[str, Any] = {
        "valid_metric": 0.1,
        "best_valid_metric": 0.1,
        "valid_loss": 2.3,
        "valid_n": 400,
    }
    made = run(np.full(200, 2.3), ending=ending | {"best_valid_loss": 2.3})
    made.facts["signal"] = {"z": z, "score": 0.5, "n": n, "noise": 0.0, "doubted": []} | more
    return made


def test_both_have_to_guess_before_nothing_is_told() -> None:
    assert finding(uninformative_inputs(guessing(0.4, linear=-0.5))).severity == "critical"
    assert finding(uninformative_inputs(guessing(0.4))).severity == "critical"  # recorded without a line
    assert isinstance(uninformative_inputs(guessing(3.1, linear=0.0)), Clear)
    assert isinstance(uninformative_inputs(guessing(0.4, linear=3.1)), Clear)


@pytest.mark.parametrize(("z", "linear"), [(2.3, 1.7), (1.2, 2.9)])
def test_between_chance_and_a_signal_neither_is_claimed(z: float, linear: float) -> None:
    """Weak but real: P(y = 1) = sigmoid(0.3 x), 1000 examples."""
    assert isinstance(uninformative_inputs(guessing(z, linear=linear)), Unknown)


@pytest.mark.parametrize(("counts", "told"), [([500, 12], False), ([256, 256], True), ([51] * 10, True)])
def test_a_class_of_a_few_examples_is_too_little_to_miss_what_there_may_be(
    counts: list[int], told: bool
) -> None:
    made = guessing(0.4, n=sum(counts))
    labels = [float(k) for k in range(len(counts))]
    made.facts["data"]["target"] = {"kind": "classes", "labels": labels, "counts": counts}
    found = uninformative_inputs(made)
    assert isinstance(found, Unknown) != told
    assert told or "nearly all of one class" in str(found)
