"""A penalty that holds the model back is named, its remedy the risk alone; one that does no harm is not."""

from __future__ import annotations

from typing import Any

import downslope as ds


def diagnosed(strength: float) -> Any:
    digits = ds.data.digits(scale=16)
    problem = ds.Problem(
        model="mlp", objective=ds.objectives.penalised("cross_entropy", l2=strength), train=digits.train,
        valid=digits.valid, metric="accuracy",
    )  # fmt: skip
    return ds.diagnose(problem, ds.Recipe(epochs=8, lr=3e-3))


def test_a_penalty_that_lets_nothing_be_learnt_is_the_cause() -> None:
    found = diagnosed(1.0)
    assert found.root is not None
    assert found.root.symptom == "over-regularised"
    assert found.root.severity == "critical"
    assert found.root.message.startswith("L2 penalty 1 holds the model back.")
    (remedy,) = found.root.remedies
    assert str(remedy) == "objective -> cross_entropy"


def test_a_penalty_that_helps_or_does_no_harm_is_not_named() -> None:
    found = diagnosed(1e-4)
    assert "over-regularised" in dict(found.cleared)
    assert found.healthy
