"""The order in which a watched script serves its targets, and what a change of them costs the model.

Kept of a batch are a few sums. Where batches differ far more than chance allows, the batch loss says little:
a model that gives the targets of the batch before has a low one. What says more is the loss of batches whose
targets are unlike those of the batch before, in what a constant guess costs on the same batches: a model that
has learnt does well on them, one that follows the order does not.
"""

from __future__ import annotations

import math
import statistics
from bisect import bisect
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

MOST = 4096
"""Batches of which the sums are kept."""

WIDEST = 1000
"""Classes or columns of a target at most; of more nothing is kept."""

SORTED = 0.3
"""Share of the variance between batches, beyond chance, from which pairs of batches are heard on purpose. The
same as in `symptoms.unshuffled_data`."""

FRESH = 0.5
"""Share of a batch's classes that the batch before did not have from which its targets count as new; of real
targets twice that is asked, a whole deviation between the means. Convention."""

FEWEST = 3
"""New batches at least from which a mean of their losses is taken."""


class Sums(NamedTuple):
    """What is kept of the targets of one batch."""

    step: int
    loss: Tensor | float
    rows: int
    first: Tensor
    """Shape (columns,): sums of the values, or counts of the classes."""
    second: Tensor | None
    """Shape (columns,): sums of their squares; None for classes."""


class Served:
    """The targets of one optimizer's batches, as they came."""

    def __init__(self) -> None:
        self._kept: list[Sums] = []
        self._looked = 16
        self.sorted = False
        """Whether the batches seen so far differ far more than chance allows."""

    def add(self, step: int, loss: Tensor | float, sums: tuple[int, Tensor, Tensor | None]) -> None:
        """The batch of `step`."""
        like = self._kept[0] if self._kept else None
        if len(self._kept) >= MOST or (like is not None and like.first.shape != sums[1].shape):
            return
        self._kept.append(Sums(step, loss, *sums))
        if len(self._kept) >= self._looked:
            self._looked *= 2
            found = self.measured()
            self.sorted = found is not None and found["explained"] - found["expected"] >= SORTED

    def measured(self) -> dict[str, Any] | None:
        """``explained``, ``expected``, ``z`` and ``batches``, as `measure.order` gives them, and the costs.

        ``classes`` says whether the targets are classes, not numbers.
        ``fresh`` is the mean loss of batches whose targets are new, in that of a constant guess on them;
        ``stale`` the median loss of the others in that of a constant guess on all; both of the later half of
        the run, and None where fewer than `FEWEST` were new. Nothing at all where the targets do not vary, or
        were not seen.
        """
        kept = self._kept
        if len(kept) < 3:
            return None
        count = torch.tensor([each.rows for each in kept], dtype=torch.float64)[:, None]
        first = torch.stack([each.first for each in kept]).to("cpu", torch.float64)
        n, b = float(count.sum()), len(kept)
        overall = first.sum(0) / n
        mean = first / count
        if kept[0].second is None:
            total = n * float(1 - overall.square().sum())
        else:
            squares = torch.stack([each.second for each in kept if each.second is not None])
            total = float((squares.to("cpu", torch.float64).sum(0) - n * overall.square()).sum())
        if not math.isfinite(total) or total <= 1e-12 * n:
            return None
        between = float((count * (mean - overall).square()).sum())
        expected = (b - 1) / (n - 1)
        deviation = math.sqrt(2 * (b - 1) * max(n - b, 0) / ((n - 1) ** 2 * (n + 1))) or 1.0
        explained = between / total
        return {
            "explained": explained, "expected": expected, "z": (explained - expected) / deviation,
            "batches": b, "watched": True, "classes": kept[0].second is None,
        } | self._costs(mean, overall, total / n)  # fmt: skip

    def _costs(self, mean: Tensor, overall: Tensor, variance: float) -> dict[str, float | None]:
        """Loss of the batches with new targets in the later half, and of the rest, in that of a constant."""
        rows: list[tuple[bool, float, float]] = []
        steps: list[int] = []
        for i, (before, one) in enumerate(pairwise(self._kept), start=1):
            if one.step != before.step + 1:
                continue
            if one.second is None:
                fresh = 0.5 * float((mean[i] - mean[i - 1]).abs().sum()) >= FRESH
                guess = -float((mean[i] * overall.clamp_min(1e-12).log()).sum())
            else:
                fresh = float((mean[i] - mean[i - 1]).square().sum()) >= (2 * FRESH) ** 2 * variance
                spread = one.second.to("cpu", torch.float64) / one.rows - mean[i].square()
                guess = float((spread + (mean[i] - overall).square()).mean())
            steps.append(one.step)
            rows.append((fresh, float(one.loss), guess))
        half = rows[bisect(steps, self._kept[-1].step // 2) :]
        places = [i for i, row in enumerate(rows) if row[0]]
        if len(places) < FEWEST:
            return {"fresh": None, "stale": None}
        if sum(row[0] for row in half) < FEWEST:  # an epoch is long: the last ones that there were
            half = rows[places[-FEWEST] :]
        fresh = [row for row in half if row[0]]
        others = [row[1] for row in half if not row[0]]
        guess, overall_guess = sum(row[2] for row in fresh), statistics.fmean(row[2] for row in half)
        cost = sum(row[1] for row in fresh) / guess if guess > 0 else math.nan
        # The median: what comes right after a change is neither new nor yet followed.
        rest = statistics.median(others) / overall_guess if others and overall_guess > 0 else math.nan
        found = {"fresh": cost, "stale": rest}
        return {key: value if math.isfinite(value) else None for key, value in found.items()}


def sums(made: Tensor, target: Tensor) -> tuple[int, Tensor, Tensor | None] | None:
    """What is kept of a batch's targets: how many, their sums, and those of the squares of real ones.

    Args:
        made: The output, whose axis after the first is that of the classes where the target has indices.
        target: Shape (n, ...), values or class indices.
    """
    if not target.dim() or not len(target) or target.is_sparse:
        return None
    with torch.no_grad():
        if target.is_floating_point():
            rows = target.detach().reshape(len(target), -1).double()
            return (len(rows), rows.sum(0), rows.square().sum(0)) if rows.shape[1] <= WIDEST else None
        if target.dim() != 1 or made.dim() != 2 or made.shape[1] > WIDEST:
            return None
        counts = torch.zeros(made.shape[1], dtype=torch.float64, device=target.device)
        index = target.detach().long().clamp(0, made.shape[1] - 1)
        return len(target), counts.scatter_add_(0, index, torch.ones_like(index, dtype=torch.float64)), None
