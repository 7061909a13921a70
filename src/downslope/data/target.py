"""What a target is: classes or numbers, decided from its values and said."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from downslope.core.errors import DataError
from downslope.data.table import Task

MOST_CLASSES = 20
"""Whole numbers with more distinct values are taken for a quantity: a convention, told with every use."""


class Decided(NamedTuple):
    """A target as training takes it."""

    values: Tensor
    """int64 class indices or float32 numbers."""
    task: Task
    classes: list[str]
    """What each index stands for; empty for regression."""
    told: str
    """The decision in one sentence."""
    levels: npt.NDArray[Any] | None = None
    """What the data hold for each class, in ascending order, so that other data can be coded alike."""


def of_text(values: list[str], name: str) -> Decided:
    """Text is always a class."""
    labels, indices = np.unique(np.asarray(values), return_inverse=True)
    classes = [str(label) for label in labels]
    return Decided(
        torch.from_numpy(indices.astype(np.int64)),
        "classification",
        classes,
        f"target {name!r} is text with {_several(len(classes))}: classification",
        labels,
    )


def of_numbers(values: npt.NDArray[Any], name: str, *, floating: bool = False) -> Decided:
    """Whole numbers with few distinct values are classes, anything else is a quantity.

    Few are two, or at most 20 of which each occurs four times on average.

    Args:
        values: shape (n,) or (n, k), finite.
        name: for the sentence.
        floating: the values are known to be floating point on purpose: always a quantity.

    Returns:
        The decision.
    """
    flat = values.reshape(-1)
    if values.ndim == 1 and not floating and bool(np.all(flat == np.round(flat))):
        kinds, indices = np.unique(flat, return_inverse=True)
        if len(kinds) <= 2 or (len(kinds) <= MOST_CLASSES and len(kinds) * 4 <= len(flat)):
            shown = cast("list[float]", kinds.astype(float).tolist())
            classes = [f"{value:g}" for value in shown]
            why = f"whole numbers with {_several(len(classes))}"
            return Decided(
                torch.from_numpy(indices.reshape(-1).astype(np.int64)),
                "classification",
                classes,
                f"target {name!r} holds {why}: classification",
                kinds,
            )
    with np.errstate(over="ignore"):  # a reader refuses what overflows, and knows its line
        numbers = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
    return Decided(numbers, "regression", [], f"target {name!r} holds numbers: regression")


def coded(values: npt.NDArray[Any], like: Decided, unseen: Callable[[int], str]) -> Tensor:
    """Other values of a target, as `like` has it: the same index for the same class.

    Args:
        values: what the data hold, shape (n,) where there are classes.
        like: the decision that was made on the training data.
        unseen: the message for the first value that is none of its classes, from the value's place.

    Raises:
        DataError: a class that the training data do not hold.
    """
    if like.levels is None:
        as_training = np.int64 if like.task == "classification" else np.float32
        with np.errstate(over="ignore"):
            return torch.from_numpy(np.ascontiguousarray(values, dtype=as_training))
    found = np.searchsorted(like.levels, values).clip(max=len(like.levels) - 1)
    odd = np.flatnonzero(like.levels[found] != values)
    if len(odd):
        raise DataError(unseen(int(odd[0])))
    return torch.from_numpy(found.astype(np.int64))


def _several(count: int) -> str:
    return "one value only" if count == 1 else f"{count} different values"
