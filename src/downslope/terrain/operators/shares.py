"""What each example has of an objective: the c of ``L = sum_i c_i l_i``, by name or as the objective shows.

Torch's losses and ours say what they are. Of one's own a look tells: with l_i the objective of an example
alone, its slope by the outputs is ``c_i dl_i``, so that the two slopes give c_i: 1 in a sum, 1/n in a mean,
the weight of its class in a mean so weighted. Where they are not parallel, or their c_i sum to no mean,
there are no such l_i (a root of a mean, what couples its examples).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from downslope.core import batches
from downslope.core.counted import counts, unstated
from downslope.terrain.hvp import length
from downslope.terrain.operators.outputs import Outputs

TRIED = 16
"""Examples that are asked whether all have the same share."""

MOST = 4096
"""Examples that are all asked, where they have not."""

CLOSE = 1e-3
"""Share by which slopes may differ that are the same: those of float32, of losses that cancel."""

SUMMED = (
    "the objective adds up what its examples have alone, so the empirical Fisher matrix is the sum of their "
    "g g^T, no mean"
)
DIVIDED = (
    "the objective adds up what its examples have alone and divides by a constant, which is taken for their "
    "number: in the empirical Fisher matrix it is a mean over them"
)
UNCLEAR = (
    "the objective is no mean over its examples and no sum of them, so that none has a loss of its own: the "
    "empirical Fisher matrix takes each one's part of the slope as if it were a mean"
)


class Shares(NamedTuple):
    """Of every example."""

    each: Tensor
    """Shape (n,), float64; 0 for one that does not count."""
    note: str | None = None
    """What is to be known of them."""


def shares(outputs: Outputs) -> Shares:
    """The share of each example of a batch.

    Args:
        outputs: Of the model on it, with the slopes of the objective.
    """
    function = outputs.objective.function
    count = batches.length(outputs.target if batches.tensors(outputs.target) else outputs.batch)
    counted = counts(function)
    if counted is None:
        return Shares(torch.full((count,), 1.0 if function is not None else 1.0 / count, dtype=torch.float64))
    rows = counted.rows(outputs.target, count)
    total = rows.sum()
    mean = rows / total if total else torch.full_like(rows, 1 / count)
    if not unstated(function) or not outputs.slopes:
        return Shares(mean)
    return _asked(outputs, mean.cpu())


def _asked(outputs: Outputs, mean: Tensor) -> Shares:
    """What the objective itself shows."""
    count = len(mean)
    some = torch.linspace(0, count - 1, min(count, TRIED)).round().long().unique().tolist()
    seen = _each(outputs, count, some)
    if seen is None:
        return Shares(mean, UNCLEAR)
    for guess, note in ((mean, None), (torch.ones_like(mean), SUMMED)):
        told = ((each, float(guess[i])) for i, each in seen.items() if each is not None)
        if all(abs(each - wanted) <= CLOSE * wanted for each, wanted in told):
            return Shares(mean, DIVIDED) if note and _divided(outputs, count) else Shares(guess, note)
    seen = _each(outputs, count, range(count)) if count <= MOST else None
    if seen is None or any(each is not None and each < 0 for each in seen.values()):
        return Shares(mean, UNCLEAR)
    known = torch.tensor([seen[i] or 0.0 for i in range(count)], dtype=torch.float64)
    flat = sum(each is None for each in seen.values())
    if abs(float(known.sum()) - 1) > CLOSE and not (flat and float(known.sum()) < 1):
        return Shares(mean, UNCLEAR)
    return Shares(known)


def _divided(outputs: Outputs, count: int) -> bool:
    """Whether a sum looks divided by the number of its examples, which stands in it as a constant.

    Of a likelihood the slopes by the outputs have squares as large as its curvature: ``sum |c dl_i|^2`` is
    about c times the trace of ``sum c d2l_i``, so that c itself shows, as no comparison of batches can show.
    """
    draw = torch.Generator().manual_seed(0)
    signs = [(torch.randint(0, 2, tuple(z.shape), generator=draw) * 2 - 1).to(z) for z in outputs.outputs]
    bent = float(_flat(outputs.curved(signs)) @ _flat(signs))
    square = float(_flat(outputs.slopes).square().sum())
    return count > 10 and bent > 0 and 1 / 3 < square * count / bent < 3


def _each(outputs: Outputs, count: int, wanted: Any) -> dict[int, float | None] | None:
    """Shares of some examples, None of one without a slope; None where there are none to speak of."""
    found: dict[int, float | None] = {}
    try:
        for i in wanted:
            own, whole = _slopes(outputs, count, i)
            size = float(own @ own)
            if not size > 0:  # flat, or NaN, which is what does not count alone
                if bool(whole.any()):
                    return None
                found[i] = 0.0 if bool(own.isnan().any()) else None
                continue
            share = float(own @ whole) / size
            if length(whole - share * own) > CLOSE * length(whole):
                return None
            found[i] = share
    except Exception:  # noqa: BLE001 (an objective may need more than one example)
        return None
    return found


def _slopes(outputs: Outputs, count: int, i: int) -> tuple[Tensor, Tensor]:
    """The slope of the objective of example i alone, and its part of the slope of all; float64, flat."""

    def alone(leaf: Tensor) -> Tensor:
        axis = batches.axis_of_examples([leaf], [count]) if leaf.dim() else None
        return leaf if axis is None else leaf.narrow(axis, i, 1)

    parts = [alone(each).detach().requires_grad_() for each in outputs.outputs]
    with torch.enable_grad():
        target, args = (batches.map_tensors(alone, each) for each in (outputs.target, outputs.args))
        value = outputs.valued(parts, target, args)
        own = torch.autograd.grad(value, parts, allow_unused=True, materialize_grads=True)
    whole = (alone(each) for each in outputs.slopes)
    return _flat(own), _flat(whole)


def _flat(parts: Iterable[Tensor]) -> Tensor:
    return torch.cat([each.detach().reshape(-1).double().cpu() for each in parts])
