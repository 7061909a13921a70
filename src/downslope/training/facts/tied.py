"""What it costs that the probabilities of an example share a sum of 1 where each answers for itself."""

from __future__ import annotations

import torch
from torch import Tensor

ROWS = 2048
"""Rows of targets that are looked at."""

_HALVINGS = 60


def tied(target: Tensor) -> dict[str, float] | None:
    """The least logistic loss that outputs ``p >= 0, sum p = 1`` leave, above that of free ones.

    For a row of targets y it is ``min_p sum BCE(p, y) - BCE(y, y)``, a divergence, which is convex in y: by
    Jensen what a model loses that predicts ``q(x)`` lies between that of the mean target, which it loses
    whatever the data's noise, and that of the targets themselves, which a perfect model loses. The minimum
    solves ``m p^2 - (m + 1) p + y = 0`` for every entry, with one multiplier m for the row.

    Args:
        target: (n, k, ...), probabilities or hard labels in [0, 1]; k of them are one row.

    Returns:
        ``surely`` and ``most``, in shares of the way from a constant guess to a perfect model; ``low``,
        ``mean`` and ``high`` of the rows' sums; ``hard``, 1 for targets of 0 and 1 alone. None where
        the targets are no such rows, or all the same.
    """
    y = _rows(target)
    if y is None:
        return None
    mean = y.mean(0, keepdim=True)
    way = float(_loss(mean, mean).sum() - _loss(y, y).sum(1).mean())
    return _told(float(_excess(mean)), float(_excess(y)), way, y)


def tied_squares(target: Tensor) -> dict[str, float] | None:
    """The same of the squared error: the distance of the rows from those that sum to 1, in their variance.

    The squared distance from a convex set is convex too, so that the mean target gives what is surely lost.

    Args:
        target: (n, k, ...), numbers in [0, 1]; k of them are one row.

    Returns:
        As `tied`.
    """
    y = _rows(target)
    if y is None:
        return None
    mean = y.mean(0, keepdim=True)
    way = float((y - mean).square().sum(1).mean())
    return _told(float(_distance(mean)), float(_distance(y)), way, y)


def _rows(target: Tensor) -> Tensor | None:
    if target.dim() < 2 or target.shape[1] < 2 or target.is_complex() or not target.numel():
        return None
    rows = target.detach()[:ROWS].movedim(1, -1).reshape(-1, target.shape[1])
    if target.dim() == 2:
        rows = target.detach()[:: max(1, len(target) // ROWS)]
    y = rows[:: max(1, len(rows) // ROWS)].to("cpu", torch.float64)
    return y if bool(((y >= 0) & (y <= 1)).all()) else None


def _told(surely: float, most: float, way: float, y: Tensor) -> dict[str, float] | None:
    if way <= 0:
        return None
    sums = y.sum(1)
    return {
        "surely": surely / way,
        "most": most / way,
        "low": float(sums.min()),
        "mean": float(sums.mean()),
        "high": float(sums.max()),
        "hard": float(bool(((y == 0) | (y == 1)).all())),
    }


def _distance(y: Tensor) -> Tensor:
    """Mean squared distance of the rows of y, (n, k), from the rows p >= 0 that sum to 1.

    The nearest is ``max(y - m, 0)``, with one m for the row, found from the largest entries down (Duchi et
    al. 2008, Efficient projections onto the l1-ball, figure 1).
    """
    down = y.sort(1, descending=True).values
    count = torch.arange(1, y.shape[1] + 1, dtype=y.dtype)
    m = (down.cumsum(1) - 1) / count
    held = (down > m).sum(1, keepdim=True)
    return (y - (y - m.gather(1, held - 1)).clamp_min(0)).square().sum(1).mean()


def _excess(y: Tensor) -> Tensor:
    """The mean over the rows of y, (n, k), of what the shared sum costs."""
    low, high = y.new_full((len(y), 1), -2.0), y.new_full((len(y), 1), float(y.shape[1]))
    for _ in range(_HALVINGS):  # from p >= 1/2 each to p <= 1/k each
        middle = 0.5 * (low + high)
        above = _shared(y, middle).sum(1, keepdim=True) > 1.0
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
    return (_loss(_shared(y, high), y) - _loss(y, y)).sum(1).mean()


def _shared(y: Tensor, m: Tensor) -> Tensor:
    """The root in [0, 1] of ``m p^2 - (m + 1) p + y``, without cancellation; it falls with m."""
    root = ((m + 1).square() - 4 * m * y).clamp_min(0).sqrt()
    negative = m < -0.5
    small = 2 * y / torch.where(negative, torch.ones_like(m), m + 1 + root)
    large = (m + 1 - root) / (2 * torch.where(negative, m, torch.ones_like(m)))
    return torch.where(negative, large, small).clamp(0, 1)


def _loss(p: Tensor, y: Tensor) -> Tensor:
    return -(torch.xlogy(y, p) + torch.xlogy(1 - y, 1 - p))
