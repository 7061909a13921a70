"""Targets and inputs that float32 cannot square, or trees cannot split: the scale is the root of it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import downslope as ds
from downslope.diagnosis.diagnosis import Diagnosis


def diagnosed(inputs: float, targets: float) -> Diagnosis:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(400, 5, generator=generator)
    y = 2 * x[:, :1] + x[:, 1:2].square() + 0.1 * torch.randn(400, 1, generator=generator)
    x, y = inputs * x, targets * y
    problem = ds.Problem(
        model=lambda: nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 1)),
        objective="squared_error", train=(x[:300], y[:300]), valid=(x[300:], y[300:]),
    )  # fmt: skip
    recipe = ds.Recipe(optimizer="adam", lr=1e-2, batch_size=64, epochs=15)
    return ds.diagnose(problem, recipe, progress=False, folder=False)


@pytest.mark.parametrize("targets", [1e18, 1e25])
def test_targets_whose_squares_overflow_are_the_root_and_the_lost_loss_follows(targets: float) -> None:
    found = diagnosed(1.0, targets)
    assert [each.symptom for each in found.findings] == ["unscaled-targets"]
    root = found.findings[0]
    assert root.severity == "critical"
    assert "divide the targets" in str(root.remedies[0])
    assert [each.symptom for each in root.consequences] == ["unstable-objective"]


def test_inputs_that_overflow_are_the_root() -> None:
    found = diagnosed(1e25, 1.0)
    assert [each.symptom for each in found.findings] == ["unscaled-inputs"]


def test_of_both_one_scale_is_the_root_and_not_the_loss() -> None:
    assert diagnosed(1e25, 1e25).findings[0].symptom in ("unscaled-inputs", "unscaled-targets")


def test_tiny_targets_are_no_proof_of_inputs_that_say_nothing() -> None:
    found = diagnosed(1.0, 1e-12)
    assert found.findings[0].symptom == "unscaled-targets"
    assert "uninformative-inputs" not in [each.symptom for each in found.findings]
