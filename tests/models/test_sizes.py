"""Outputs of a named model, as they are read from the labels; what cannot be classes is one line."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import downslope as ds
from downslope.core.errors import DataError

X = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
K = torch.arange(60) % 3
SIGNS = K.clamp(max=1) * 2 - 1


def fitted(y: Any, objective: Any = "cross_entropy", model: str = "linear") -> ds.Run:
    problem = ds.Problem(model=model, objective=objective, train=(X, y))
    return ds.fit(problem, ds.Recipe(epochs=1, lr=0.01), folder=False, progress=False)


def outputs(run: ds.Run) -> int:
    return int(run.model()(X).shape[-1])


@pytest.mark.parametrize("dtype", [torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8])
def test_labels_of_every_integer_dtype_train_alike(dtype: torch.dtype) -> None:
    run, plain = fitted(K.to(dtype)), fitted(K)
    assert outputs(run) == 3
    for ours, theirs in zip(run.model().parameters(), plain.model().parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("y", [K.numpy().astype(np.int8), K[:, None]], ids=["pandas codes", "a column"])
def test_codes_and_a_column_are_classes_too(y: Any) -> None:
    assert outputs(fitted(y)) == 3


ALONE = "there is nothing to tell apart; give examples of another class too"


@pytest.mark.parametrize("objective", ["cross_entropy", nn.CrossEntropyLoss()], ids=["ours", "torch"])
@pytest.mark.parametrize(
    ("y", "said"),
    [
        (K.float(), "train: the target is float32: class indices must be whole numbers; y.long()"),
        (K.float()[:, None], "train: the target is float32: class indices must be whole numbers; y.long()"),
        (K > 0, "train: the target is bool: class indices must be whole numbers; y.long()"),
        (K * 0, f"train: all 60 targets are class 0: {ALONE}"),
        (K * 0 + 1, f"train: all 60 targets are class 1: {ALONE}"),
    ],
    ids=["float", "float column", "bool", "class 0", "class 1"],
)
def test_what_cannot_be_classes_is_told_by_its_cause(y: Tensor, said: str, objective: Any) -> None:
    with pytest.raises(DataError) as told:
        fitted(y, objective)
    assert str(told.value) == said


@pytest.mark.parametrize("model", ["linear", "logistic", "mlp"])
@pytest.mark.parametrize("dtype", [torch.int64, torch.int8])
def test_whole_signs_are_one_score_as_floating_ones_are(model: str, dtype: torch.dtype) -> None:
    whole, floating = fitted(SIGNS.to(dtype), "hinge", model), fitted(SIGNS.float(), "hinge", model)
    assert outputs(whole) == 1
    for ours, theirs in zip(whole.model().parameters(), floating.model().parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("model", ["linear", "logistic", "mlp"])
@pytest.mark.parametrize("labels", [1, 2, 3])
def test_every_label_of_yes_and_no_has_a_score(model: str, labels: int) -> None:
    run = fitted((X[:, :1] > torch.linspace(-1, 1, labels)).float(), "logistic", model)
    assert outputs(run) == labels


def test_few_classes_with_a_large_index_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    problem = ds.Problem(model="linear", objective="cross_entropy", train=(X, torch.where(K == 2, 5000, K)))
    with caplog.at_level(logging.WARNING):
        assert problem.build()(X).shape == (60, 5001)
    (line,) = caplog.messages
    assert line.startswith("the target holds 3 classes, and the largest index is 5000: the model gets 5001")


def test_many_classes_that_occur_are_not_told(caplog: pytest.LogCaptureFixture) -> None:
    y = torch.arange(1200)
    ds.Problem(model="linear", objective="cross_entropy", train=(torch.randn(1200, 2), y)).build()
    assert not caplog.messages
