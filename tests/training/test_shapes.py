"""Types and shapes: what can be meant is aligned, what cannot is one line with the way out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import downslope as ds
from downslope.core.errors import InputError
from tests.training.problems import data, labels

X, CLASS = labels(80)
Y = data(80, torch.float32)[1]
HOW = ds.Recipe(optimizer="sgd", lr=0.5, batch_size="full", steps=40)


def fit(train: Any, objective: Any = "squared_error", model: Any = None, **more: Any) -> ds.Run:
    made = model or (lambda: nn.Linear(4, 1))
    return ds.fit(
        ds.Problem(model=made, objective=objective, train=train, **more), HOW, folder=False, progress=False
    )


def by_hand(target: Tensor, loss: Any, outputs: int) -> nn.Linear:
    """Full-batch gradient descent on one linear layer from zero, in torch alone."""
    layer = nn.Linear(4, outputs)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    for _ in range(40):
        layer.zero_grad()
        loss(layer(X), target).backward()
        with torch.no_grad():
            for each in layer.parameters():
                each -= 0.5 * each.grad  # type: ignore[operator]
    return layer


INTEGERS = [torch.int64, torch.int32, torch.int8, torch.uint8]


@pytest.mark.parametrize("column", [False, True], ids=["row", "column"])
@pytest.mark.parametrize("dtype", [*INTEGERS, torch.bool, torch.float32, torch.float64])
def test_logistic_regression_takes_any_yes_or_no_target(dtype: torch.dtype, column: bool) -> None:
    target = CLASS.to(dtype)
    run = ds.fit(
        ds.Problem(model="logistic", objective="logistic", metric="accuracy",
                   train=(X, target[:, None] if column else target)),
        HOW.edit(init="zeros"), folder=False, progress=False,
    )  # fmt: skip
    hand = by_hand(CLASS.float()[:, None], nn.functional.binary_cross_entropy_with_logits, 1)
    weights = [each.detach() for each in run.model().parameters()]
    assert [tuple(each.shape) for each in weights] == [(1, 4), (1,)]
    for ours, theirs in zip(weights, hand.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs.detach(), rtol=1e-4, atol=1e-5)
    right = float(((hand(X) > 0).squeeze(1) == CLASS.bool()).double().mean())
    assert run.summary["train_metric"] == pytest.approx(right, abs=1e-9)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32])
def test_softmax_regression_takes_class_indices(dtype: torch.dtype) -> None:
    run = ds.fit(
        ds.Problem(model="softmax", objective="cross_entropy", metric="accuracy", train=(X, CLASS.to(dtype))),
        HOW.edit(init="zeros"), folder=False, progress=False,
    )  # fmt: skip
    hand = by_hand(CLASS, nn.functional.cross_entropy, 2)
    for ours, theirs in zip(run.model().parameters(), hand.parameters(), strict=True):
        torch.testing.assert_close(ours.detach(), theirs.detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        ({"train": (X.to(torch.complex64), Y)}, ["(80, 4)", "ComplexFloat"]),
        ({"train": (X, ["a"] * 80)}, ["train[1]", "are no numbers; encode them first"]),
        ({"train": (X, CLASS.float()), "objective": "cross_entropy", "model": lambda: nn.Linear(4, 2)},
         ["torch.float32", "target.long() makes indices"]),
        ({"train": (X, CLASS - 1), "objective": "cross_entropy", "model": lambda: nn.Linear(4, 2)},
         ["train target, row", "-1 (the first of", "classes count from 0"]),
        ({"train": (X, CLASS + 1), "objective": "cross_entropy", "model": lambda: nn.Linear(4, 2)},
         ["class index outside [0, 2)", "classes count from 0"]),
        ({"train": (X, CLASS + 1), "objective": nn.CrossEntropyLoss(), "model": lambda: nn.Linear(4, 2)},
         ["Target 2 is out of bounds", "give the model as many outputs as classes"]),
        ({"train": (X, CLASS), "objective": "cross_entropy"}, ["one entry an example", "use 'logistic'"]),
        ({"train": (X, Y), "objective": nn.MSELoss(reduction="none")}, ["(80, 1)", "reduction='mean'"]),
        ({"train": (X, CLASS), "objective": nn.BCEWithLogitsLoss()}, ["BCEWithLogitsLoss", "Target size"]),
        ({"train": (X[:, 0], Y)}, ["[(80,), (80, 1)]"]),
        ({"train": (X, Y[:-1])}, ["same first dimension"]),
        ({"train": (X[0, 0], Y[0, 0])}, ["same first dimension"]),
        ({"train": X}, ["(80, 1)", "(80, 4)"]),
        ({"train": (X, Y), "metric": "accuracy"}, ["targets 0 and 1", "such as 'r2'"]),
        ({"train": (X, CLASS), "objective": "cross_entropy", "metric": "r2",
          "model": lambda: nn.Linear(4, 2)}, ["r2", "differ in shape"]),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_one_line(given: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(InputError) as told:
        fit(**given)
    text = str(told.value)
    assert "\n" not in text
    assert all(part in text for part in parts), text


@pytest.mark.parametrize("kind", [torch.int64, torch.uint8, torch.bool])
def test_inputs_that_are_no_floats_are_told_how_to_become_some(kind: torch.dtype) -> None:
    with pytest.raises(InputError) as told:
        fit(((X.abs() * 3).to(kind), Y))
    text = str(told.value)
    assert "\n" not in text
    assert f"the inputs are {kind}: X.float() makes them what a layer takes" in text


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_data_of_another_precision_is_taken_to_that_of_the_model(dtype: torch.dtype) -> None:
    run = fit((X.to(dtype), Y.to(dtype)))
    assert all(each.dtype == torch.float32 for each in run.model().parameters())
    assert run.summary["train_loss"] < run.history["train_loss"][1]


@pytest.mark.parametrize(
    ("objective", "target", "way"),
    [
        (nn.CrossEntropyLoss(), CLASS.float(), "class indices are int64: target.long() makes them"),
        (nn.CrossEntropyLoss(), CLASS.int(), "class indices are int64: target.long() makes them"),
        (nn.BCEWithLogitsLoss(), CLASS[:, None].expand(-1, 2), "the target is torch.int64: target.float()"),
    ],
)
def test_a_target_of_the_wrong_type_for_torchs_own_loss_is_told_the_way(
    objective: nn.Module, target: Tensor, way: str
) -> None:
    with pytest.raises(InputError) as told:
        fit((X, target), objective, lambda: nn.Linear(4, 2))
    assert way in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("model", ["mlp", lambda: nn.Linear(1, 3)], ids=["named", "own"])
def test_inputs_of_one_number_without_a_dimension_are_told_to_be_a_column(model: Any) -> None:
    problem = ds.Problem(
        model=model, objective="cross_entropy", train=(torch.randn(60), torch.arange(60) % 3)
    )
    with pytest.raises(InputError, match=r"x\[:, None\] makes it a column"):
        ds.fit(problem, ds.Recipe(steps=2), folder=False, progress=False)
