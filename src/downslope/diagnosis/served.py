"""The order in which a watched script serves its targets, and what a change of them costs the model.

Kept of a batch are a few sums, formed of many batches at once: one by one they cost more than hearing the
loss does. Where batches differ far more than chance allows, the batch loss says little:
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

WAITING = 500_000
"""Numbers of targets that wait for their sums, at most."""

SORTED = 0.3
"""Share of the variance between batches, beyond chance, from which pairs of batches are heard on purpose. The
same as in `symptoms.unshuffled_data`."""

FRESH = 0.5
"""Share of a batch's classes that the batch before did not have from which its targets count as new; of real
targets twice that is asked, a whole deviation between the means. Convention."""

FEWEST = 3
"""New batches at least from which a mean of their losses is taken."""

OPENING = 0.1
"""Share of the steps in which a batch costs what the untrained model makes of it, whatever the order: new
batches that came there alone tell nothing. Four classes in a long epoch change at 0.25 first. Convention."""


class Sums(NamedTuple):
    """What is kept of the targets of one batch."""

    step: int
    loss: Tensor | float
    rows: int
    first: Tensor
    """Shape (columns,): sums of the values, or counts of the classes."""
    second: Tensor | None
    """Shape (columns,): sums of their squares; None for classes."""


class Targets(NamedTuple):
    """The targets of one batch, before their sums are formed."""

    values: Tensor
    """A copy; shape (n,) of class indices, or (n, ...) of numbers."""
    classes: int
    """How many classes there are; 0 where the targets are numbers."""
    columns: int
    """Length of the sums."""


class Served:
    """The targets of one optimizer's batches, as they came."""

    def __init__(self) -> None:
        self._kept: list[Sums] = []
        self._waiting: list[tuple[int, Tensor | float, Targets]] = []
        self._numbers = 0
        self._count = 0
        self._kind: tuple[int, bool] | None = None
        self._looked = 16
        self.sorted = False
        """Whether the batches seen so far differ far more than chance allows."""

    def add(self, step: int, loss: Tensor | float, targets: Targets) -> None:
        """The batch of `step`."""
        kind = targets.columns, targets.classes > 0
        self._kind = self._kind or kind
        if self._count >= MOST or kind != self._kind:
            return
        self._count += 1
        self._numbers += targets.values.numel()
        self._waiting.append((step, loss, targets))
        if self._count >= self._looked:
            self._looked *= 2
            self._settle()
            found = self._between()
            self.sorted = found is not None and found["explained"] - found["expected"] >= SORTED
        elif self._numbers > WAITING:
            self._settle()

    def _settle(self) -> None:
        """Form the sums of the batches that wait, those of one shape together."""
        waiting, self._waiting, self._numbers = self._waiting, [], 0
        alike: dict[Any, list[int]] = {}
        for place, (_, _, (values, classes, _)) in enumerate(waiting):
            alike.setdefault((values.shape, values.dtype, values.device, classes), []).append(place)
        made: dict[int, tuple[Tensor, Tensor | None]] = {}
        for places in alike.values():
            values = torch.stack([waiting[place][2].values for place in places])
            made.update(zip(places, _sums(values, waiting[places[0]][2].classes), strict=True))
        self._kept += [
            Sums(step, loss, len(each.values), *made[place])
            for place, (step, loss, each) in enumerate(waiting)
        ]

    def measured(self) -> dict[str, Any] | None:
        """``explained``, ``expected``, ``z`` and ``batches``, as `measure.order` gives them, and the costs.

        ``classes`` says whether the targets are classes, not numbers.
        ``fresh`` is the mean loss of batches whose targets are new, in that of a constant guess on them;
        ``stale`` the median loss of the others in that of a constant guess on all; both of the later half of
        the run, and None where fewer than `FEWEST` were new after its `OPENING`. Nothing at all where the
        targets do not vary, or were not seen.
        """
        self._settle()
        found = self._between()
        if found is None:
            return None
        mean, overall, variance = found.pop("of")
        return found | self._costs(mean, overall, variance)

    def _between(self) -> dict[str, Any] | None:
        """The same without the costs; ``of``: mean of each batch, of all, and the variance."""
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
            "of": (mean, overall, total / n),
        }  # fmt: skip

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
            if steps[places[-FEWEST]] < OPENING * self._kept[-1].step:
                return {"fresh": None, "stale": None}
        fresh = [row for row in half if row[0]]
        others = [row[1] for row in half if not row[0]]
        guess, overall_guess = sum(row[2] for row in fresh), statistics.fmean(row[2] for row in half)
        cost = sum(row[1] for row in fresh) / guess if guess > 0 else math.nan
        # The median: what comes right after a change is neither new nor yet followed.
        rest = statistics.median(others) / overall_guess if others and overall_guess > 0 else math.nan
        found = {"fresh": cost, "stale": rest}
        return {key: value if math.isfinite(value) else None for key, value in found.items()}


def targets_of(made: Tensor, target: Tensor) -> Targets | None:
    """What is kept of a batch's targets until their sums are formed; None where nothing is.

    Args:
        made: The output, whose axis after the first is that of the classes where the target has indices.
        target: Shape (n, ...), values or class indices.
    """
    shape = target.shape
    if not shape or not shape[0] or target.layout is not torch.strided:
        return None
    classes = 0
    if not target.is_floating_point():
        if len(shape) != 1 or made.dim() != 2:
            return None
        classes = made.shape[1]
    columns = classes or target.numel() // shape[0]
    if columns > WIDEST:
        return None
    return Targets((target.detach() if target.requires_grad else target).clone(), classes, columns)


def _sums(values: Tensor, classes: int) -> list[tuple[Tensor, Tensor | None]]:
    """Sums over the examples of each batch, and of the squares of numbers.

    Args:
        values: Shape (batches, n, ...).
        classes: How many there are where the values are their indices; else 0.
    """
    with torch.no_grad():
        if not classes:
            rows = values.reshape(*values.shape[:2], -1).double()
            return list(zip(rows.sum(1).unbind(), rows.square().sum(1).unbind(), strict=True))
        index = values.long().clamp(0, classes - 1)
        counts = torch.zeros(len(values), classes, dtype=torch.float64, device=values.device)
        counts.scatter_add_(1, index, torch.ones_like(index, dtype=torch.float64))
        return [(each, None) for each in counts.unbind()]
