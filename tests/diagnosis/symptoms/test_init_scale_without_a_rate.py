"""A start out of scale under a schedule that takes the rate away at once: the rate stands before it."""

from __future__ import annotations

import numpy as np
import pytest

from downslope.core.run import Run
from downslope.diagnosis.judge import judge
from tests.diagnosis.runs import layer, run


def standing(rates: np.ndarray) -> Run:
    """A run that stands far above a constant guess, from a start that is as far above it."""
    loss = 60.0 + np.random.default_rng(0).normal(size=len(rates))
    made = run(loss, start={"loss": 60.0, "layers": [layer("0"), layer("2"), layer("4")], "norms": 0})
    made.recipe = None
    made.history.extend("lr", list(range(1, len(rates) + 1)), rates.tolist())
    return made


@pytest.mark.parametrize("factor", [0.5, 0.1])
def test_a_rate_that_was_gone_at_once_is_the_root_of_a_start_that_nothing_mended(factor: float) -> None:
    found = judge(standing(0.01 * factor ** np.arange(200.0)))
    assert found.root is not None
    assert found.root.symptom == "learning-rate-too-low"
    assert {each.symptom: each.severity for each in found.findings}["init-scale"] == "info"


def test_at_a_rate_that_lasted_the_start_is_the_root() -> None:
    for rates in (np.full(200, 0.01), 0.01 * 0.98 ** np.arange(200.0)):
        found = judge(standing(rates))
        assert found.root is not None
        assert found.root.symptom == "init-scale"
        assert found.root.severity == "critical"
