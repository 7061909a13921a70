from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from downslope.core.run import Run
from downslope.diagnosis.judge import judge
from downslope.training.fit import fit
from tests.diagnosis.runs import run
from tests.diagnosis.symptoms.problems import Functional, classes, diagnosed, net, numbers, problem, recipe


def naive(output: Tensor, target: Tensor) -> Tensor:
    p = output.exp() / output.exp().sum(1, keepdim=True)
    return -p[torch.arange(len(target)), target].log().mean()


def of_the_last_class(output: Tensor, target: Tensor) -> Tensor:
    own = target == 3
    rest = functional.cross_entropy(output, target, reduction="none")
    return rest.mean() + (rest * own).sum() / own.sum()  # 0 / 0 in a batch without one


def root_at_zero(output: Tensor, target: Tensor) -> Tensor:
    return functional.mse_loss(output, target) + 0.1 * (output - output).square().sqrt().mean()


def test_a_quotient_that_is_zero_by_zero_in_some_batches_is_named_with_its_step() -> None:
    sick = problem(classes(), lambda: net(12, 4), of_the_last_class, "accuracy")
    result = diagnosed(sick, recipe(batch_size=8))
    assert result.root is not None
    assert result.root.symptom == "unstable-objective"
    assert result.root.where.steps is not None
    assert result.root.where.steps[0] == result.run.facts["nonfinite"]["step"]


def test_a_batch_without_a_target_that_counts_is_named_and_no_edit_to_what_is_there() -> None:
    (x, y), held = classes()
    few = torch.where(torch.arange(len(y)) % 3 == 0, -100, y)
    sick = problem(((x, few), held), lambda: net(12, 4), nn.CrossEntropyLoss(), None)
    root = judge(fit(sick, recipe(batch_size=2), folder=False, progress=False)).root
    assert root is not None
    assert root.symptom == "unstable-objective"
    assert "all 2 targets of the batch are ignore_index (-100): the mean over none is 0/0" in root.message
    assert not any("objective ->" in str(each) for each in root.remedies)


def test_a_derivative_that_does_not_exist_at_zero_is_named() -> None:
    result = diagnosed(problem(numbers(), lambda: Functional(6, 1), root_at_zero, "r2"), recipe())
    assert result.root is not None
    assert result.root.symptom == "unstable-objective"


def test_scores_at_which_the_formula_breaks_are_those_of_float32() -> None:
    task = problem(classes(), lambda: net(12, 4), naive, "accuracy")
    facts = diagnosed(task, recipe()).run.facts["objective"]
    assert facts["breaks"] in (30.0, 100.0)  # exp overflows at 88.7: three deviations of 30, or one of 100
    stable = diagnosed(task.edit(objective="cross_entropy"), recipe()).run.facts["objective"]
    assert stable["breaks"] is None


def test_an_unstable_formula_in_a_run_that_stays_finite_is_clear() -> None:
    result = diagnosed(problem(classes(), lambda: net(12, 4), naive, "accuracy"), recipe())
    assert result.healthy
    assert "would break it" in dict(result.cleared)["unstable-objective"]


@pytest.mark.parametrize("what", ["weight", "input", "output"])
def test_what_broke_before_the_loss_is_not_put_down_to_it(what: str) -> None:
    made = run([2.3, float("nan")], objective={"value": 2.3, "gradient": 1.0, "breaks": 30.0})
    made.facts["nonfinite"] = {"step": 2, "what": what, "module": "0"}
    assert "unstable-objective" in dict(judge(made).cleared)


def test_a_run_of_which_nothing_is_known_raises_nothing() -> None:
    assert not judge(Run()).findings
