"""Sums of products with twice the digits of float64, out of float64 operations alone.

Every sum and product is kept as what float64 gives and what it leaves out, both exactly (Dekker 1971; Ogita,
Rump and Oishi 2005, "Accurate sum and dot product", algorithms 3.1 to 3.3 and 5.3).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

_SPLIT = 2.0**27 + 1


class Twofold(NamedTuple):
    """The number ``high + low``, element by element."""

    high: Tensor
    low: Tensor


def total(a: Tensor, b: Tensor) -> Twofold:
    """``a + b``, exactly."""
    s = a + b
    t = s - a
    return Twofold(s, (a - (s - t)) + (b - t))


def times(a: Tensor, b: Tensor) -> Twofold:
    """``a b``, exactly, where neither it nor ``2^27 a`` overflows."""
    p = a * b
    (x, u), (y, v) = _halves(a), _halves(b)
    return Twofold(p, u * v - (((p - x * y) - u * y) - x * v))


def _halves(a: Tensor) -> tuple[Tensor, Tensor]:
    c = _SPLIT * a
    high = c - (c - a)
    return high, a - high


def outputs(rows: Tensor, theta: Tensor) -> Twofold:
    """``A theta`` of A (n, p) and theta (p, k)."""
    high = low = torch.zeros(len(rows), theta.shape[1], dtype=rows.dtype)
    for column, weights in zip(rows.T, theta, strict=True):
        term = times(column[:, None], weights)
        high, rest = total(high, term.high)
        low = low + (rest + term.low)
    return total(high, low)


def back(rows: Tensor, slope: Twofold) -> Twofold:
    """``A^T s`` of A (n, p) and s (n, k), summed in pairs."""
    found = [_column(rows, a, b) for a, b in zip(slope.high.T, slope.low.T, strict=True)]
    return Twofold(
        torch.stack([each.high for each in found], 1), torch.stack([each.low for each in found], 1)
    )


def _column(rows: Tensor, high: Tensor, low: Tensor) -> Twofold:
    terms = times(rows, high[:, None])
    a, b = terms.high, terms.low + rows * low[:, None]
    while len(a) > 1:
        half = len(a) // 2
        joined = total(a[:half], a[half : 2 * half])
        rest = b[:half] + b[half : 2 * half] + joined.low
        a, b = torch.cat([joined.high, a[2 * half :]]), torch.cat([rest, b[2 * half :]])
    return total(a[0], b[0])
