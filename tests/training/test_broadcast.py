"""An output (n, 1) against a target (n,): one line of ours in the place of torch's, where it is so."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import downslope as ds
from downslope.core.errors import InputError

X = torch.randn(96, 4, generator=torch.Generator().manual_seed(0))
Y = X @ torch.tensor([1.0, 2.0, -1.0, 0.5])
HOW = ds.Recipe(optimizer="sgd", lr=0.05, batch_size=32, epochs=2)


def squared(output: Tensor, target: Tensor) -> Tensor:
    return (output - target).square().mean()


def problem(objective: Any, target: Tensor = Y, outputs: int = 1) -> ds.Problem:
    return ds.Problem(
        model=lambda: nn.Linear(4, outputs),
        objective=objective,
        train=(X[:64], target[:64]),
        valid=(X[64:], target[64:]),
    )


def said(caplog: Any, given: ds.Problem) -> list[str]:
    caplog.clear()
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        ds.fit(given, HOW, folder=False, progress=False)
    assert [str(each.message) for each in heard] == []
    return [each.getMessage() for each in caplog.records]


CROSSED: dict[str, tuple[Any, str]] = {
    "a module": (nn.MSELoss(), "objective='squared_error' aligns them"),
    "a function": (functional.l1_loss, "objective='absolute_error' aligns them"),
    "another": (nn.HuberLoss(), "objective='huber' aligns them"),
    "of one's own": (squared, "in the objective take output.squeeze(-1)"),
    "of one's own on torch": (lambda o, y: 2 * functional.l1_loss(o, y), "output.squeeze(-1)"),
}


@pytest.mark.parametrize("given", CROSSED)
def test_fit_says_once_that_outputs_are_broadcast_and_what_to_write(given: str, caplog: Any) -> None:
    objective, way = CROSSED[given]
    (line,) = said(caplog, problem(objective))
    assert line.startswith("outputs (n, 1) against targets (n,) are broadcast to (n, n)")
    assert "the loss is wrong" in line
    assert way in line
    assert "\n" not in line


def test_the_loss_that_is_called_wrong_is_that_of_all_pairs() -> None:
    run = ds.fit(problem(nn.MSELoss()), HOW, folder=False, progress=False)
    output = run.model()(X[64:]).detach()
    pairs = (output - Y[64:][None, :]).square().mean()
    assert run.summary["valid_loss"] == pytest.approx(float(pairs), rel=1e-6)
    assert float(pairs) != pytest.approx(float((output[:, 0] - Y[64:]).square().mean()), rel=0.01)


@pytest.mark.parametrize(
    "objective",
    [
        "squared_error",
        lambda o, y: squared(o.squeeze(1), y),
        lambda o, y: squared(o, y[:, None]),
        lambda o, y: functional.mse_loss(o.reshape(-1), y),
    ],
)
def test_an_objective_that_aligns_by_itself_is_not_told_of(objective: Any, caplog: Any) -> None:
    assert said(caplog, problem(objective)) == []


def test_a_diagnosis_does_not_blame_an_objective_that_aligns_by_itself() -> None:
    given = problem(lambda o, y: squared(o, y[:, None]))
    found = ds.diagnose(given, HOW.edit(epochs=20), progress=False)
    assert "objective-mismatch" not in [each.symptom for each in found.findings]


def test_a_column_of_targets_against_a_flat_output_is_told_the_other_way_round(caplog: Any) -> None:
    given = problem(nn.MSELoss(), Y[:, None]).edit(
        model=lambda: nn.Sequential(nn.Linear(4, 1), nn.Flatten(0))
    )
    (line,) = said(caplog, given)
    assert line.startswith("outputs (n,) against targets (n, 1) are broadcast to (n, n)")
    assert "target.squeeze(-1)" in line


def test_one_target_against_several_outputs_is_told(caplog: Any) -> None:
    (line,) = said(caplog, problem(nn.MSELoss(), Y[:, None], outputs=3))
    assert line.startswith("outputs (n, 3) against targets (n, 1) are broadcast to (n, 3)")


def test_of_several_tasks_the_one_is_named(caplog: Any) -> None:
    objective = ds.objectives.composite({"a": nn.MSELoss(), "b": "squared_error"})
    (line,) = said(caplog, problem(objective))
    assert line.startswith("a: outputs (n, 1) against targets (n,) are broadcast to (n, n)")


@pytest.mark.parametrize("verb", ["fit_population", "lr_range"])
def test_a_verb_of_many_runs_says_it_once(verb: str, caplog: Any) -> None:
    given = problem(nn.MSELoss())
    if verb == "fit_population":
        ds.fit_population(given, [HOW, HOW.edit(lr=0.1)], folder=False, progress=False)
    else:
        ds.lr_range(given, HOW, steps=10, seeds=2, progress=False)
    assert len([each for each in caplog.records if "broadcast" in each.getMessage()]) == 1


@pytest.mark.parametrize("objective", [nn.MSELoss(), squared])
def test_a_diagnosis_leaves_it_to_its_finding(objective: Any, caplog: Any) -> None:
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        found = ds.diagnose(problem(objective), HOW.edit(epochs=20), progress=False)
    assert [str(each.message) for each in heard if "target size" in str(each.message)] == []
    assert [each.getMessage() for each in caplog.records if "broadcast" in each.getMessage()] == []
    assert found.root is not None
    assert found.root.symptom == "objective-mismatch"


@pytest.mark.parametrize("objective", [nn.MSELoss(), squared])
def test_a_repair_without_a_metric_is_judged_by_the_objective_that_aligns(objective: Any) -> None:
    given = problem(objective)
    found = ds.repair(given, HOW.edit(epochs=20), progress=False, budget="30s")
    kept = [trial for trial in found.trials if trial.verdict == "kept"]
    assert [str(trial.edit).split(" -> ")[0] for trial in kept] == ["objective"]
    guess = float((Y[64:] - Y[:64].mean()).square().mean())
    assert max(kept[0].after) < 0.1 * guess < min(kept[0].before)
    run = ds.fit(found.problem, found.recipe, folder=False, progress=False)
    model = run.model()
    assert float((model(X[64:]).detach()[:, 0] - Y[64:]).square().mean()) < 0.1 * guess


def test_solve_says_it_where_the_value_is_not_that_of_the_loss_it_knows() -> None:
    with pytest.raises(InputError, match=r"it broadcasts outputs \(64, 1\) against targets \(64,\)"):
        ds.solve(problem(nn.MSELoss()))
