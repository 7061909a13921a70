"""Data by index that is no torch Dataset, lists of examples and of numbers, and what is read once only."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, TensorDataset

import downslope as ds
from downslope.core.errors import DataError
from downslope.core.sources import as_source

X, Y = torch.randn(50, 6), torch.arange(50) % 3


class Indexed:
    """As the data sets of other libraries are."""

    def __len__(self) -> int:
        return 50

    def __getitem__(self, index: int) -> Any:
        return X[index], Y[index]


class Rows(Indexed):
    def __getitem__(self, index: int) -> Any:
        return {"x": X[index].tolist(), "labels": int(Y[index])}


def batch(data: Any) -> Any:
    return next(iter(as_source(data, "train").stored(50)))


@pytest.mark.parametrize(
    "data",
    [Indexed(), [(X[i], int(Y[i])) for i in range(50)], [(X[i].tolist(), int(Y[i])) for i in range(50)]],
)
def test_examples_by_index_are_those_of_a_dataset(data: Any) -> None:
    x, y = batch(data)
    torch.testing.assert_close((x, y), batch(TensorDataset(X, Y)))


def test_lists_of_numbers_in_examples_are_tensors() -> None:
    found = batch(Rows())
    torch.testing.assert_close(found["x"], X)
    assert found["labels"].tolist() == Y.tolist()
    problem = ds.Problem(model="softmax", objective="cross_entropy", train=Rows())
    assert ds.fit(problem, ds.Recipe(steps=2), folder=False, progress=False).status == "done"


def test_tokens_of_several_lengths_are_told_in_few_words() -> None:
    with pytest.raises(
        DataError, match=r"example 2 is \(Tensor\(4,\), int\) and example 0 \(Tensor\(5,\), int\)"
    ):
        as_source([([1] * (5 - (i == 2)), 0) for i in range(6)], "train")


def test_two_tuples_are_inputs_and_target_and_a_list_of_parts_stays() -> None:
    (one, two), target = batch([(X, X), Y])
    assert one.shape == two.shape == (50, 6)
    assert target.shape == (50,)


def test_what_can_be_read_once_only_is_told() -> None:
    with pytest.raises(DataError, match="train: a zip can be read once only"):
        as_source(zip(X, Y, strict=True), "train")

    class Once(IterableDataset[tuple[Tensor, Tensor]]):
        def __init__(self) -> None:
            self.left = iter([(X[i], Y[i]) for i in range(50)])

        def __iter__(self) -> Any:
            return self.left

    problem = ds.Problem(model=lambda: torch.nn.Linear(6, 3), objective="cross_entropy", train=Once())
    with pytest.raises(DataError, match="it is empty, or it was read already: __iter__ must begin anew"):
        ds.fit(problem, ds.Recipe(epochs=2), folder=False, progress=False)
