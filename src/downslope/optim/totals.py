"""Totals of what rules want added up: in float64, of elements that are widened where their squares overflow.

In float32 the square of an element from 1.8e19 on is infinite, though the norm is not. Whoever adds looks at
the totals, which are few, and only where one is not finite are elements looked at again, in float64.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["are_finite", "doubled", "total"]

_States = Sequence[tuple[Tensor, ...]]


def total(part: Tensor, peak: bool) -> Tensor:
    """The sum of all elements, or the largest of them and 0, in float64."""
    if not peak:
        return part.sum(dtype=torch.float64)
    return part.amax().double() if part.numel() else part.new_zeros((), dtype=torch.float64)


def are_finite(totals: Sequence[Tensor]) -> bool:
    """Whether no total is NaN or infinite; where asking would wait for a device, they count as finite."""
    return all(each.device.type != "cpu" or math.isfinite(float(each.sum())) for each in totals)


def doubled(p: Tensor, g: Tensor, states: _States) -> tuple[Tensor, Tensor, list[tuple[Tensor, ...]]]:
    """A parameter, its gradient and the states of its links in float64; states keep their types."""
    wide: list[tuple[Tensor, ...]] = []
    for state in states:
        each = [x.double() for x in state]
        wide.append(type(state)(*each) if hasattr(state, "_fields") else tuple(each))
    return p.double(), g.double(), wide
