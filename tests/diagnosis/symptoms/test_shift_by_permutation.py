"""Columns, classes and answers that stand in another order in the held-out part; and what only looks so."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import downslope as ds
from downslope.diagnosis.diagnosis import Diagnosis
from tests.diagnosis.symptoms.problems import found

NAME = "dataset-shift"


def clouds(n: int, seed: int, *, kinds: int = 4, far: float = 1.2) -> tuple[Tensor, Tensor]:
    """Standardised columns that are all alike but for what they say of the class."""
    draw = torch.Generator().manual_seed(seed)
    centres = far * torch.randn(kinds, 9, generator=torch.Generator().manual_seed(99))
    y = torch.randint(kinds, (n,), generator=draw)
    x = torch.randn(n, 9, generator=draw) + centres[y]
    return (x - centres.mean(0)) / (1 + centres.var(0)).sqrt(), y


def diagnosed(
    train: Any, valid: Any, outputs: int = 4, objective: Any = "cross_entropy", **how: Any
) -> Diagnosis:
    def model() -> nn.Module:
        return nn.Sequential(nn.Linear(train[0].shape[1], 32), nn.ReLU(), nn.Linear(32, outputs))

    problem = ds.Problem(model=model, objective=objective, train=train, valid=valid, metric="accuracy")
    recipe = ds.Recipe(optimizer="adam", lr=1e-2, batch_size=32, epochs=10, seed=0).edit(**how)
    return ds.diagnose(problem, recipe, budget="400 steps", progress=False, folder=False)


def named(result: Diagnosis) -> str:
    assert result.root is not None, str(result)
    assert result.root.symptom == NAME, str(result)
    assert result.root.severity == "warning"
    return f"{result.root.message} {result.root.remedies[0]}"


ORDERS = {"the opposite order": list(range(8, -1, -1)), "the order": [4, 0, 8, 1, 7, 2, 6, 3, 5],
          "a picture of 3 x 3 that is transposed": [0, 3, 6, 1, 4, 7, 2, 5, 8]}  # fmt: skip


@pytest.mark.parametrize("said", list(ORDERS))
def test_columns_that_are_distributed_alike_are_put_back_by_what_they_say_of_the_target(said: str) -> None:
    (x, y), (xv, yv) = clouds(500, 0), clouds(300, 1)
    assert said in named(diagnosed((x, y), (xv[:, ORDERS[said]], yv)))


def test_classes_that_are_answered_in_part_only_are_renamed() -> None:
    (x, y), (xv, yv) = clouds(500, 0, far=0.7), clouds(200, 1, far=0.7)
    result = diagnosed((x, y), (xv, (yv + 1) % 4))
    assert "label 0 for 3, 1 for 0" in named(result)


def test_a_yes_or_no_that_is_turned_round_is_told() -> None:
    (x, y), (xv, yv) = clouds(400, 0, kinds=2), clouds(150, 1, kinds=2)
    logistic: dict[str, Any] = {"outputs": 1, "objective": nn.BCEWithLogitsLoss()}
    said = named(diagnosed((x, y.float()[:, None]), (xv, 1 - yv.float()[:, None]), **logistic))
    assert "label 0 for 1, 1 for 0" in said
    twin = diagnosed((x, y.float()[:, None]), (xv, yv.float()[:, None]), **logistic)
    assert twin.healthy


def test_a_scale_of_few_held_out_examples_is_told_by_the_deviations() -> None:
    (x, y), (xv, yv) = clouds(140, 0), clouds(36, 1)
    assert "x * 9" in (said := named(diagnosed((x, y), (0.1 * xv, yv), epochs=30))) or "x * 1" in said


def chequered() -> tuple[Any, Any]:
    """Two fields of a chessboard were never seen: each is answered as its neighbours are, which is wrong."""
    draw = torch.Generator().manual_seed(0)
    x = 4 * torch.rand(2000, 2, generator=draw)
    field = x.floor()
    y = (field.sum(1) % 2).long()
    left = (field[:, 1] == 1) & ((field[:, 0] == 1) | (field[:, 0] == 2))
    return (x[~left] - 2, y[~left]), (x[left] - 2, y[left])


def memorised() -> tuple[Any, Any]:
    """Answers that say nothing, learnt by heart."""
    draw = torch.Generator().manual_seed(0)
    (x, y), held = clouds(80, 0), clouds(300, 1)
    return (x, y[torch.randperm(80, generator=draw)]), held


def blurred() -> tuple[Any, Any]:
    (xv, yv) = clouds(300, 1)
    return clouds(80, 0), (xv + 2 * torch.randn(xv.shape, generator=torch.Generator().manual_seed(3)), yv)


@pytest.mark.parametrize("parts", [chequered, memorised, blurred], ids=lambda each: each.__name__)
def test_a_part_that_is_answered_badly_is_in_no_other_order(parts: Any) -> None:
    result = diagnosed(*parts(), epochs=25)
    assert found(result, NAME) is None, str(result)
