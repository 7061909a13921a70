from __future__ import annotations

import pytest
from torch import Tensor, nn
from torch.nn import functional

from downslope.core.finding import Finding
from downslope.core.run import Run
from downslope.diagnosis.judge import judge
from downslope.diagnosis.symptoms.summed_objective import summed_objective
from tests.diagnosis.runs import run
from tests.diagnosis.symptoms.problems import (
    Functional,
    classes,
    diagnosed,
    found,
    net,
    numbers,
    problem,
    recipe,
)


def summed(output: Tensor, target: Tensor) -> Tensor:
    return functional.cross_entropy(output, target, reduction="sum")


@pytest.mark.parametrize("objective", [nn.CrossEntropyLoss(reduction="sum"), summed], ids=["module", "own"])
def test_a_sum_is_the_root_where_its_step_throws_the_run(objective: object) -> None:
    sick = problem(classes(), lambda: Functional(12, 4), objective, "accuracy")
    result = diagnosed(sick, recipe(optimizer="sgd", lr=0.3))
    assert result.root is not None
    assert result.root.symptom == "summed-objective"
    assert result.root.evidence.value == pytest.approx(2.0, rel=1e-4)


def test_the_remedy_lets_the_summed_problem_learn() -> None:
    sick = problem(numbers(), lambda: net(6, 1), nn.MSELoss(reduction="sum"), "r2")
    how = recipe(optimizer="sgd", lr=0.1, epochs=60)
    first, *rest = diagnosed(sick, how).findings[0].remedies
    assert str(first) == "objective -> mse"
    assert diagnosed(*first.apply(sick, how)).root is None
    assert str(rest[0]) == "lr 0.1 -> 0.0031"


@pytest.mark.parametrize(
    "how", [recipe(), recipe(optimizer="sgd", lr=0.003)], ids=["adam divides it out", "a rate chosen for it"]
)
def test_a_sum_that_does_no_harm_is_clear(how: object) -> None:
    task = problem(classes(), lambda: net(12, 4), nn.CrossEntropyLoss(reduction="sum"), "accuracy")
    result = diagnosed(task, how)  # type: ignore[arg-type]
    assert result.healthy
    assert "summed-objective" in dict(result.cleared)


def test_a_sum_within_an_example_is_no_sum_over_the_batch() -> None:
    def inside(output: Tensor, target: Tensor) -> Tensor:
        return functional.mse_loss(output, target, reduction="none").sum(1).mean()

    result = diagnosed(problem(numbers(), lambda: net(6, 1), inside, "r2"), recipe(epochs=40))
    assert result.healthy
    assert dict(result.cleared)["summed-objective"] == "a batch taken twice has the same loss"


def test_the_constant_and_the_run_are_compared_on_batches_of_one_size() -> None:
    task = problem(classes(), lambda: net(12, 4), nn.CrossEntropyLoss(reduction="sum"), "accuracy")
    facts = diagnosed(task, recipe()).run.facts
    mean = diagnosed(task.edit(objective="cross_entropy"), recipe()).run.facts
    assert facts["constant"]["loss"] == pytest.approx(32 * mean["constant"]["loss"], rel=1e-3)
    assert facts["start"]["loss"] == pytest.approx(32 * mean["start"]["loss"], rel=1e-3)


def test_short_empty_and_broken_runs_raise_nothing() -> None:
    broken = run([float("nan")] * 3, objective={"growth": 2.0})
    for made in (Run(), run([], objective={"growth": 2.0}), broken):
        result = judge(made)
        assert all("check failed" not in why for _, why in result.not_checked)
    assert found(judge(run([2.3, 2.2], objective={"growth": 1.0})), "summed-objective") is None


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("sgd", "so every step is 32 times as long as by their mean at the same learning rate"),
        ("momentum", "so every step is 32 times as long"),
        ("sam(sgd)", "so every step is 32 times as long"),
        ("adam", "Adam divides that factor out of its steps again"),
        ("lookahead(adamw)", "Adamw divides that factor out"),
        ("lion", "Lion divides that factor out"),
        ("custom", "so the gradient is 32 times that of their mean, and grows with the batch size"),
    ],
)
def test_what_a_sum_does_to_a_step_is_told_of_the_method(name: str, said: str) -> None:
    sick = run([2.3] * 100)
    sick.recipe = None
    sick.facts |= {"optimizer": {"name": name, "lr": 0.1}, "batch_size": 32}
    sick.facts["objective"] = {"growth": 2.0, "watched": True}
    verdict = summed_objective(sick)
    assert isinstance(verdict, Finding)
    assert said in verdict.message
    assert ("every step is 32" in verdict.message) == (name in ("sgd", "momentum", "sam(sgd)"))
