from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from downslope.core.run import Run
from downslope.diagnosis.judge import judge
from tests.diagnosis.symptoms.problems import Functional, classes, diagnosed, net, numbers, problem, recipe


def errors(output: Tensor, target: Tensor) -> Tensor:
    return (output.argmax(1) != target).float().mean()


def detached(output: Tensor, target: Tensor) -> Tensor:
    return functional.cross_entropy(output.detach(), target)


def rounded(output: Tensor, target: Tensor) -> Tensor:
    return (output.round() - target).square().mean()


@pytest.mark.parametrize("objective", [errors, detached], ids=["argmax", "detach"])
def test_an_objective_without_a_gradient_is_critical_and_no_step_is_taken(objective: object) -> None:
    result = diagnosed(problem(classes(), lambda: net(12, 4), objective, "accuracy"), recipe())
    assert result.root is not None
    assert (result.root.symptom, result.root.severity) == ("non-differentiable", "critical")
    assert not result.run.summary
    assert not result.healthy


def test_a_flat_objective_is_found_and_its_smooth_stand_in_learns() -> None:
    sick = problem(numbers(), lambda: Functional(6, 1), rounded, "r2")
    result = diagnosed(sick, recipe(epochs=40))
    assert [each.symptom for each in result.findings] == ["non-differentiable"]
    assert result.findings[0].evidence.value == 0
    assert diagnosed(*result.findings[0].remedies[0].apply(sick, recipe(epochs=40))).healthy


@pytest.mark.parametrize(
    "objective", [nn.L1Loss(), nn.HuberLoss(), lambda o, t: (o - t).clamp(-1, 1).square().mean()]
)
def test_kinks_and_flat_ends_are_no_fault(objective: object) -> None:
    result = diagnosed(problem(numbers(), lambda: net(6, 1), objective, "r2"), recipe(epochs=40))
    assert result.healthy


def test_an_output_layer_that_starts_at_zero_has_a_gradient() -> None:
    def make() -> nn.Module:
        model = net(12, 4)
        torch.nn.init.zeros_(model[-1].weight)  # type: ignore[index,arg-type]
        return model

    assert diagnosed(problem(classes(), make, "cross_entropy", "accuracy"), recipe()).healthy


def test_a_run_of_which_nothing_is_known_raises_nothing() -> None:
    assert not judge(Run()).findings
