"""What a target is: classes or numbers, decided from its values and said."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

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


def of_text(values: list[str], name: str) -> Decided:
    """Text is always a class."""
    labels, indices = np.unique(np.asarray(values), return_inverse=True)
    classes = [str(label) for label in labels]
    return Decided(
        torch.from_numpy(indices.astype(np.int64)),
        "classification",
        classes,
        f"target {name!r} is text with {_several(len(classes))}: classification",
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
            )
    numbers = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
    return Decided(numbers, "regression", [], f"target {name!r} holds numbers: regression")


def _several(count: int) -> str:
    return "one value only" if count == 1 else f"{count} different values"
