"""Adafactor's steps in pieces, by torch's own operations: for every device, and where no kernel can be built.

means of g**2 by pieces;  sums of U**2;  then p by pieces: nothing of a large tensor's size is made
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import cast

import torch
from torch import Tensor

from downslope.optim.rule import Scalars

__all__ = ["step_in_pieces", "wide"]

PIECE = {"cpu": 1 << 16}
"""Elements that are worked on at once: what the cache holds. Elsewhere a launch costs more than memory."""

LARGE = 1 << 24

FEW = 8
"""Rows that are added one by one: torch's sum over a short stride is slow."""

Slices = tuple[slice, ...]


def step_in_pieces(
    p: Tensor, g: Tensor, shape: Sequence[int], state: Sequence[Tensor], low: float, k: Scalars, sign: float
) -> bool:
    """One step of `p` in place; False, with nothing done, where p's memory cannot be seen in another shape.

    Args:
        p: the parameter.
        g: its gradient.
        shape: that of the matrices which are factored.
        state: (R, C), or (V,).
        low: eps1.
        k: what `ScaleByFactors.at` gave.
        sign: -1 climbs.
    """
    try:
        x, g = p.view(shape), g.reshape(shape)
    except RuntimeError:  # no view: p is laid out otherwise
        return False
    if p.numel() == 0:
        return True
    pieces = list(_pieces(shape, PIECE.get(p.device.type, LARGE)))
    _remember(g, state, pieces, k)
    units = _Units(g, state, low)
    square = torch.stack([_squares(units.of(at)) for at in pieces]).sum()
    size = torch.stack([_squares(wide(x[at])) for at in pieces]).sum()
    step = sign * _length(size / p.numel(), square / p.numel(), k)
    for at in pieces:
        moved = units.of(at).mul_(step)
        x[at] -= moved.add_(wide(x[at]), alpha=cast("float", k.shrink)) if k.shrink else moved
    return True


def _length(size: Tensor, square: Tensor, k: Scalars) -> Tensor:
    """What U is multiplied by, from the mean squares of p and of U, in float64."""
    root, cut = size.sqrt(), square.sqrt() / k.d
    return torch.where(root > k.least, root, k.least) * k.rate / torch.where(cut > 1.0, cut, 1.0)


def _pieces(shape: Sequence[int], most: int) -> Iterator[Slices]:
    """Cuts of a tensor into parts of about `most` elements, along any dimension but the last."""
    size = math.prod(shape[1:])
    if not shape:
        yield ()
    elif len(shape) <= 2 or size <= most:
        width = max(1, most // max(size, 1))
        for low in range(0, shape[0], width):
            yield (slice(low, min(low + width, shape[0])),)
    else:
        for i in range(shape[0]):
            for rest in _pieces(shape[1:], most):
                yield (slice(i, i + 1), *rest)


def _outer(at: Slices, ndim: int) -> Slices:
    """The cut of what has one row: of all dimensions but the last two."""
    return at[: ndim - 2]


def _remember(g: Tensor, state: Sequence[Tensor], pieces: Sequence[Slices], k: Scalars) -> None:
    """The moving means after this step."""
    if len(state) == 1:
        for at in pieces:
            a = wide(g[at])
            _blend(state[0][at], a * a, k)
        return
    rows, columns = state
    sums = torch.zeros_like(columns, dtype=torch.promote_types(columns.dtype, torch.float32))
    for at in pieces:
        a = wide(g[at])
        a = a * a
        _blend(rows[at], a.mean(-1, keepdim=True), k)
        sums[_outer(at, g.ndim)] += _column_sums(a)
    _blend(columns, sums.div_(g.shape[-2]), k)


def _column_sums(a: Tensor) -> Tensor:
    if a.shape[-2] > FEW:
        return a.sum(-2, keepdim=True)
    total = a[..., :1, :].clone()
    for i in range(1, a.shape[-2]):
        total += a[..., i : i + 1, :]
    return total


def _blend(old: Tensor, new: Tensor, k: Scalars) -> None:
    if old.dtype == new.dtype:
        old.mul_(k.keep).add_(new, alpha=cast("float", k.gain))
    else:
        old.copy_(wide(old).mul_(k.keep).add_(new, alpha=cast("float", k.gain)))


class _Units:
    """U = g / max(sqrt(V), eps1), piece by piece."""

    def __init__(self, g: Tensor, state: Sequence[Tensor], low: float) -> None:
        self.g, self.low = g, low
        self.rows, self.columns = (state[0], state[1]) if len(state) == 2 else (None, state[0])
        self.mean = None if self.rows is None else wide(self.rows).mean(-2, keepdim=True).clamp_(min=low)

    def of(self, at: Slices) -> Tensor:
        if self.rows is None or self.mean is None:
            square = wide(self.columns[at]).clone()
        else:
            outer = _outer(at, self.g.ndim)
            square = wide(self.rows[at]) * wide(self.columns[outer])
            square /= self.mean[outer]
        return square.clamp_(min=self.low * self.low).rsqrt_().mul_(wide(self.g[at]))


def wide(x: Tensor) -> Tensor:
    """`x` in the precision of the arithmetic: float32 for the half ones."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def _squares(x: Tensor) -> Tensor:
    """The sum of squares in float64."""
    return cast("Tensor", torch.linalg.vector_norm(x)).double().square()
