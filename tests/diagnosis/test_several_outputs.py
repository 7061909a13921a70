"""A model that returns an object or dict with logits is diagnosed as one that returns the tensor."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import downslope as ds
from tests.training.test_outputs import HOW, KINDS, X, Y, problem


def judged(given: ds.Problem, recipe: ds.Recipe) -> tuple[list[str], dict[str, str]]:
    found = ds.diagnose(given, recipe, progress=False)
    return [each.symptom for each in found.findings], dict(found.not_checked)


@pytest.mark.parametrize("kind", KINDS)
def test_as_much_is_judged_of_the_logits_as_of_a_tensor(kind: str) -> None:
    assert judged(problem(kind), HOW) == judged(problem(), HOW)


@pytest.mark.parametrize("objective", ["cross_entropy", None])
@pytest.mark.parametrize("kind", ["namespace", "dict"])
def test_a_sick_run_has_the_same_finding_and_remedy(kind: str, objective: Any) -> None:
    unscaled = {"x": X * torch.tensor([1e3, 1.0, 1.0, 1.0]), "labels": Y}
    sick: dict[str, Any] = {"train": unscaled, "valid": unscaled}
    found, wanted = (
        ds.repair(given, HOW, progress=False)
        for given in (problem(kind, objective=objective, **sick), problem(**sick))
    )
    assert found.diagnosis.findings[0].symptom == wanted.diagnosis.findings[0].symptom
    assert found.diff == wanted.diff
    assert wanted.diff


def test_of_a_loss_of_the_models_own_the_reason_is_told() -> None:
    _, reasons = judged(problem("both", objective=None), HOW)
    assert reasons["non-differentiable"] == "the loss is the model's own"
