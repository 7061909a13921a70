"""The order in which a DataLoader serves the training examples: whether one batch looks like the next."""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch
from torch import Tensor

from downslope.core.problem import Problem
from downslope.core.sources import Loader

BATCHES = 200
"""Batches of the first pass that are looked at."""


def measure(problem: Problem) -> dict[str, Any] | None:
    """Targets in the order of two passes of the training data.

    Returns:
        ``explained`` (share of the targets' variance, over all classes or columns, that lies between batches)
        and ``expected`` (what a random order gives: (batches - 1) / (examples - 1)), ``z`` (the excess in
        deviations of chance), ``repeats`` (whether the second pass serves the same first batch), ``batches``;
        None where the data is reshuffled by `fit` itself, or the target is not one tensor.
    """
    source = problem.train_source
    if not isinstance(source, Loader):
        return None
    served = [
        target
        for batch in itertools.islice(source.epoch(1, 0, 0), BATCHES)
        if isinstance(target := problem.splitter(batch)[2], Tensor)
    ]
    if len(served) < 3:
        return None
    again = problem.splitter(next(iter(source.epoch(1, 0, 1))))[2]
    columns: list[Tensor] = [_columns(each) for each in served]
    values = torch.cat(columns) if columns[0].shape[1] else None
    if values is None:
        return None
    if not served[0].is_floating_point():
        labels = torch.unique(values.long())
        columns = [(each.long() == labels).double() for each in columns]
        values = torch.cat(columns)
    total = (values - values.mean(0)).square().sum()
    if not float(total) > 0:
        return None
    between = sum(len(c) * float((c.mean(0) - values.mean(0)).square().sum()) for c in columns)
    n, b = len(values), len(columns)
    expected = (b - 1) / (n - 1)
    explained = between / float(total)
    # The share of a random partition has this variance for one column (a beta law).
    deviation = math.sqrt(2 * (b - 1) * (n - b) / ((n - 1) ** 2 * (n + 1))) if n > b else 1.0
    same = isinstance(again, Tensor) and again.shape == served[0].shape and bool((again == served[0]).all())
    return {
        "explained": explained, "expected": expected, "z": (explained - expected) / max(deviation, 1e-12),
        "repeats": same, "batches": b,
    }  # fmt: skip


def _columns(target: Tensor) -> Tensor:
    return target.detach().double().reshape(len(target), -1)
