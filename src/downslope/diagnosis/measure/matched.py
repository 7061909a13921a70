"""The order of columns under which a held-out table looks like the training table, its targets included.

Columns that are distributed alike cannot be told apart by themselves; what they have to do with the target
and with one another can. Every column has a signature (its quantiles, its mean in every class or its moments
with the target), whose differences are taken in what drawing makes of them; the best one-to-one assignment
(Kuhn 1955) is refined by the correlations between columns until it stands (as in Vogelstein et al. 2015, Fast
approximate quadratic programming for graph matching, by whole permutations).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

FEWEST = 32
"""Examples from which a signature says something."""

CLASSES = 64
"""Classes up to which each has a mean of its own."""

POSITIONS = 256
"""Numbers of an example that are looked at where only the same places are compared, at most."""

NOISE = 6.0
"""Differences in the errors of their sum that are no chance. Convention."""

LEFT = 0.2
"""Share of the difference between the parts that a change may leave. Convention: it explains nearly all."""

Labelled = tuple[Tensor, Tensor | None]
"""Inputs and targets."""

_AT = (0.1, 0.25, 0.5, 0.75, 0.9)
_ROUNDS = 20


def order(train: Labelled, valid: Labelled) -> tuple[int, ...]:
    """For each column of the training inputs the one of the held-out inputs that it is.

    Args:
        train: Inputs (n, d) and targets.
        valid: The same of the held-out part, with as many columns.
    """
    (x, y), (xv, yv) = ((a.detach().double().cpu(), b) for a, b in (train, valid))
    scale = x.std(0)
    scale = scale.clamp_min(max(0.1 * float(scale.square().mean().sqrt()), 1e-12))
    cost = _marginal(x, xv, scale) + _with_target(_own(x), _own(xv), y, yv)[0]
    found = assigned(cost)
    one, two = _correlations(x), _correlations(xv)
    drawn = 1 / len(x) + 1 / len(xv)
    for _ in range(_ROUNDS):
        other = two[:, list(found)]
        between = (one.square().sum(1)[:, None] + other.square().sum(1)[None] - 2 * one @ other.T) / drawn
        new = assigned(cost + between)
        if new == found:
            break
        found = new
    return found


def agrees(train: Labelled, before: Labelled, after: Labelled) -> bool:
    """Whether a reordering (or renaming) makes what inputs have to do with targets the same in both parts.

    A model that learnt chance by heart is answered better by some order too; but the parts are no more alike.
    The squares of the differences are taken in what drawing makes: of k of them that is k +- sqrt(2 k).

    Args:
        train: Inputs (n, ...) and targets of the training part.
        before: Of the held-out part as it is.
        after: The same examples with the change.
    """
    (was, count), (now, _) = (_apart(train, each) for each in (before, after))
    noise = NOISE * (2 * count) ** 0.5
    return count > 0 and was - now >= noise and now - count <= max(noise, LEFT * (was - count))


def _apart(one: Labelled, two: Labelled) -> tuple[float, int]:
    """Sum of the differences at the same places, and how many they are."""
    (x, y), (xv, yv) = ((a.detach().reshape(len(a), -1).double().cpu(), b) for a, b in (one, two))
    step = -(-x.shape[1] // POSITIONS)
    total, count = _with_target(_own(x[:, ::step]), _own(xv[:, ::step]), y, yv)
    return float(total.diagonal().sum()), count * total.shape[0]


def usual(columns: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Orders that come about by a slip: backwards, and rows of a picture laid out in another way."""
    index = np.arange(columns)
    yield "the opposite order", _as_tuple(index[::-1])
    side = round(columns**0.5)
    if side >= 3 and side * side == columns:
        grid = index.reshape(side, side)
        said = f"the order of a picture of {side} x {side}"
        yield f"{said} that is transposed", _as_tuple(grid.T)
        yield f"{said} that stands upside down", _as_tuple(grid[::-1])
        yield f"{said} that is turned left to right", _as_tuple(grid[:, ::-1])


def _as_tuple(order: NDArray[np.int64]) -> tuple[int, ...]:
    return tuple(int(each) for each in order.flatten())


def _own(x: Tensor) -> Tensor:
    std = x.std(0)
    return (x - x.mean(0)) / torch.where(std > 0, std, torch.ones_like(std))


def _marginal(x: Tensor, xv: Tensor, scale: Tensor) -> Tensor:
    """Differences of the quantiles, their squares in what drawing makes, (d, d)."""
    at = torch.tensor(_AT, dtype=torch.float64)
    one, two = x.quantile(at, dim=0), xv.quantile(at, dim=0)
    apart = ((one[:, :, None] - two[:, None, :]) / scale[:, None]).square().mean(0)
    return apart / (2 / len(x) + 2 / len(xv))


def _with_target(x: Tensor, xv: Tensor, y: Tensor | None, yv: Tensor | None) -> tuple[Tensor, int]:
    """Differences of what the columns have to do with the target, likewise, and how many each sums up."""
    total, count = torch.zeros(x.shape[1], xv.shape[1], dtype=torch.float64), 0
    if y is None or yv is None or len(y) != len(x) or len(yv) != len(xv) or y.shape[1:] != yv.shape[1:]:
        return total, count
    y, yv = y.detach().double().cpu().reshape(len(y), -1), yv.detach().double().cpu().reshape(len(yv), -1)
    kinds = np.unique(y[:, 0].numpy()) if y.shape[1] == 1 else np.empty(0)
    if 1 < len(kinds) <= CLASSES:
        for kind in kinds:
            here, there = x[y[:, 0] == float(kind)], xv[yv[:, 0] == float(kind)]
            if min(len(here), len(there)) >= 2:
                total += _squares(here.mean(0), there.mean(0)) / (1 / len(here) + 1 / len(there))
                count += 1
        return total, count
    drawn = 1 / len(x) + 1 / len(xv)
    for column in range(min(y.shape[1], 8)):
        z, zv = _own(y)[:, column, None], _own(yv)[:, column, None]
        total += _squares((x * z).mean(0), (xv * zv).mean(0)) / drawn
        total += _squares((x * (z * z - 1)).mean(0), (xv * (zv * zv - 1)).mean(0)) / (2 * drawn)
        total += _squares(((x * x - 1) * z).mean(0), ((xv * xv - 1) * zv).mean(0)) / (2 * drawn)
        count += 3
    return total, count


def _squares(one: Tensor, two: Tensor) -> Tensor:
    return (one[:, None] - two[None]).square()


def _correlations(x: Tensor) -> Tensor:
    """Between different columns; of one with itself nothing is told."""
    z = _own(x)
    return (z.T @ z / len(z)).fill_diagonal_(0.0)


def assigned(cost: Tensor) -> tuple[int, ...]:
    """For each row of `cost` the column that is its own, so that the sum is least."""
    from scipy.optimize import linear_sum_assignment

    return tuple(int(each) for each in cast("tuple[Any, Any]", linear_sum_assignment(cost.numpy()))[1])
