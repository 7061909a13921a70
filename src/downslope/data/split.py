"""A seeded split into training and validation examples, stratified where there are classes."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from downslope.core.errors import DataError
from downslope.data.table import Pair

Index = npt.NDArray[np.int64]


def split(
    n: int,
    *,
    valid: float,
    seed: int,
    labels: npt.NDArray[Any] | None = None,
    groups: npt.NDArray[Any] | None = None,
) -> tuple[Index, Index]:
    """Indices of the training and of the validation examples, each in random order.

    Args:
        n: number of examples.
        valid: share held out, float in [0, 1); ``ceil(valid * n)`` examples, at least one stays for training.
        seed: of the generator; the same seed gives the same split.
        labels: shape (n,); if given, each class has its share in both parts to within one example; one of
            which there is a single example stays in training.
        groups: shape (n,); if given, all examples of a group (a patient, a day) are in the same part, and the
            share is met as nearly as whole groups drawn in random order allow. Exclusive with `labels`.

    Returns:
        Two arrays that partition ``range(n)``.

    Raises:
        DataError: `valid` outside [0, 1), both `labels` and `groups`, or one group only.
    """
    if not 0 <= valid < 1:
        raise DataError(
            f"valid={valid}: must lie in [0, 1), it is the share of examples held out; 0.2 is usual"
        )
    draw = np.random.default_rng(seed)
    held = min(math.ceil(valid * n - 1e-9), n - 1)
    order = draw.permutation(n)
    if groups is not None:
        return _by_groups(groups, held, order, draw, stratified=labels is not None)
    if labels is None:
        return order[held:], order[:held]
    chosen = np.zeros(n, dtype=bool)
    shuffled = labels[order]
    for label, quota in _quotas(labels, held):
        chosen[order[shuffled == label][:quota]] = True
    return order[~chosen[order]], order[chosen[order]]


def _by_groups(
    groups: npt.NDArray[Any], held: int, order: Index, draw: np.random.Generator, *, stratified: bool
) -> tuple[Index, Index]:
    """Whole groups in random order are held out as long as they fit into `held`, the first of them anyway."""
    if stratified:
        raise DataError("labels and groups: give one of both; whole groups cannot keep the share of a class")
    which, sizes = np.unique(groups, return_inverse=True, return_counts=True)[1:]
    if held and len(sizes) < 2:
        raise DataError("groups: all examples are of one group, so none can be held out; valid=0 takes all")
    chosen = np.zeros(len(sizes), dtype=bool)
    left = held
    for group in draw.permutation(len(sizes)).tolist() if held else ():
        if sizes[group] <= left or (not chosen.any() and sizes[group] < len(groups)):
            chosen[group] = True
            left -= int(sizes[group])
    out = chosen[which[order]]
    return order[~out], order[out]


def _quotas(labels: npt.NDArray[Any], held: int) -> list[tuple[Any, int]]:
    """How many of each class are held out: proportional, rounded by largest remainder (Hamilton's method)."""
    kinds, counts = np.unique(labels, return_counts=True)
    exact = counts * (held / len(labels))
    quotas = np.floor(exact).astype(int)
    by_remainder = np.argsort(quotas - exact, kind="stable")
    quotas[by_remainder[: held - quotas.sum()]] += 1
    kept = np.minimum(quotas, np.maximum(counts - 1, 0))  # no class is wholly held out
    return list(zip(kinds, kept.tolist(), strict=True))


class Parts(NamedTuple):
    """A table cut in two."""

    train: Pair
    valid: Pair | None
    """None where nothing is held out."""
    train_rows: Index
    """Where each training example stood."""
    valid_rows: Index
    """The same of those held out."""


def parts(inputs: Tensor, target: Tensor, *, valid: float, seed: int, stratify: bool) -> Parts:
    """The training pair and the validation pair, and which rows are in them."""
    labels = target.numpy() if stratify else None
    rows = split(len(target), valid=valid, seed=seed, labels=labels)
    train, held = (torch.from_numpy(each) for each in rows)
    pairs = (inputs[train], target[train]), ((inputs[held], target[held]) if len(held) else None)
    return Parts(*pairs, *rows)
