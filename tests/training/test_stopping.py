"""What one evaluation decides: the weights to keep, the goal, patience."""

from __future__ import annotations

import math
from typing import Any

import pytest

from downslope.training.evaluate import Evaluation
from downslope.training.stopping import Watchman, verdict
from tests.training.problems import regression


def found(metric: float, loss: float = 1.0) -> Evaluation:
    return Evaluation(loss, metric, 10, math.nan)


def decided(measures: list[float], patience: int | None = 2, **said: Any) -> list[tuple[bool, str | None]]:
    problem = regression(goal=0.9)
    watchman = Watchman(problem, patience)
    said = {"on_validation": True, **said}
    return [
        tuple(verdict(watchman, problem, found(value), step, **said)) for step, value in enumerate(measures)
    ]


def test_the_best_is_kept_and_patience_counts_from_it() -> None:
    assert decided([0.1, 0.3, 0.2, 0.3]) == [
        (True, None),
        (True, None),
        (False, None),
        (False, "early-stopped"),
    ]


def test_the_goal_goes_before_patience() -> None:
    assert decided([0.1, 0.95]) == [(True, None), (True, "goal")]


@pytest.mark.parametrize("said", [{"first": True}, {"going": False}])
def test_before_the_first_step_and_after_the_last_nothing_ends(said: dict[str, bool]) -> None:
    assert decided([0.95], **said) == [(True, None)]


def test_patience_that_ends_with_the_run_stops_nothing() -> None:
    assert decided([0.3, 0.2, 0.1], through=True)[-1] == (False, None)


def test_training_data_have_a_goal_and_no_best() -> None:
    assert decided([0.1, 0.95], on_validation=False) == [(False, None), (False, "goal")]


def test_of_nothing_but_nan_the_latest_is_kept() -> None:
    assert decided([math.nan, math.nan], patience=None) == [(True, None), (True, None)]
