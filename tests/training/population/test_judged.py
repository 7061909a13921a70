"""What members measured together say of themselves is what each says alone, standard errors included."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import downslope as ds
from downslope.training.population import losses
from downslope.training.population.judged import evaluate_together
from tests.training.problems import classification, labels, mlp, regression

HOW = ds.Recipe(optimizer="adam", lr=0.02, batch_size=16, epochs=2, precision="float64")


def blind(output: torch.Tensor, target: torch.Tensor) -> float:
    return float((output.argmax(1) == target).double().mean())


def masked() -> tuple[torch.Tensor, torch.Tensor]:
    x, y = labels(20, seed=1)
    return x, torch.where(torch.arange(20) < 3, -100, y)


def problem_of(edit: Any) -> ds.Problem:
    """The regression as `edit` changes it."""
    problem, _ = edit.apply(regression(), HOW)
    return problem


def normed() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 2))


def mixing() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6, track_running_stats=False), nn.Linear(6, 2))


def convolved() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, 4)), nn.Conv1d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4, 2)
    )


class Own(nn.Sequential):
    """No chain of layers, as far as can be told."""


PROBLEMS: dict[str, Callable[[], ds.Problem]] = {
    "accuracy": classification,
    "error": lambda: classification(metric="error"),
    "of one's own": lambda: classification(metric=blind),
    "smoothed": lambda: classification(objective="cross_entropy(label_smoothing=0.1)"),
    "left out": lambda: classification(valid=masked()),
    "regression": regression,
    "standardised targets": lambda: problem_of(ds.edits.StandardiseTargets()),
    "standardised inputs": lambda: problem_of(ds.edits.StandardiseInputs()),
    "no metric": lambda: regression(metric=None),
    "norm": lambda: classification(model=normed),
    "mixing": lambda: classification(model=mixing),
    "convolved": lambda: classification(model=convolved),
    "no chain": lambda: classification(model=lambda: Own(*mlp(outputs=2))),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_summaries_are_those_of_each_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "ROWS", 100)
    monkeypatch.setattr(losses, "IMAGES", 9)
    problem = PROBLEMS[name]()
    recipes = [HOW, HOW.edit(lr=0.1), HOW.edit(lr=0.001, seed=3)]
    together = ds.fit_population(problem, recipes, progress=False, way="together")
    alone = ds.fit_population(problem, recipes, progress=False, way="one by one")
    for ours, theirs in zip(together, alone, strict=True):
        assert str(ours.choices["population"]).startswith("together")
        same = {key: value for key, value in theirs.summary.items() if key != "seconds"}
        assert ours.summary.keys() - {"seconds"} == same.keys()
        for key, value in same.items():
            near = pytest.approx(value, rel=1e-9, abs=1e-12) if isinstance(value, float) else value
            assert ours.summary[key] == near, key


@pytest.mark.parametrize("name", ["accuracy", "of one's own", "regression"])
def test_members_of_a_common_kind_are_measured_together_in_the_end(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What could not be measured together is looked at alone: equal summaries do not show it."""
    problem = PROBLEMS[name]()
    found: list[int] = []

    def counted(*given: Any) -> dict[int, Any]:
        made = evaluate_together(*given)
        found.append(len(made))
        return made

    monkeypatch.setattr("downslope.training.population.judged.evaluate_together", counted)
    ds.fit_population(problem, [HOW, HOW.edit(lr=0.1)], progress=False, way="together")
    assert found
    assert set(found) == {2}


def test_members_that_cannot_be_measured_together_say_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*given: Any) -> dict[int, Any]:
        raise NameError("name 'torch' is not defined")

    monkeypatch.setattr("downslope.training.population.judged.evaluate_together", broken)
    runs = ds.fit_population(PROBLEMS["accuracy"](), [HOW, HOW.edit(lr=0.1)], progress=False, way="together")
    assert {run.status for run in runs} == {"done"}
    assert {run.choices["evaluation"] for run in runs} == {
        "one by one: NameError: name 'torch' is not defined"
    }
