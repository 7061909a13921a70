"""Whether the order of the contestants would come out again: seeds drawn anew from those there are.

A resample takes n of the n seeds with replacement, the same ones for all contestants, and orders them again
(Efron 1979). What is told: how often the whole order comes out again, how often each comes first, and how
far orders agree on average, by Kendall's tau (Kendall 1938).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from downslope.core.errors import InputError

Floats = npt.NDArray[np.float64]
By = Literal["mean", "median"]

DRAWS = 2000
"""Resamples: a share of one half has a standard error of 1 %."""


@dataclass(frozen=True)
class Ranking:
    """An order of contestants and how sure it is.

    Attributes:
        order: Names, best first.
        first: Name to the share of resamples in which it comes first; a tie is shared.
        same: Share of resamples with just this order; a tie is shared among the orders that it leaves open.
        tau: Mean of Kendall's tau between this order and those of the resamples, in [-1, 1].
    """

    order: tuple[str, ...]
    first: dict[str, float]
    same: float
    tau: float
    behind: tuple[int, ...] = ()
    """How many come before each of `order`; those that are equal have one number."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"order": list(self.order), "first": self.first, "same": self.same, "tau": self.tau}


def ranked(
    names: Sequence[str], costs: npt.ArrayLike, *, by: By = "median", draws: int = DRAWS, seed: int = 0
) -> Ranking:
    """The order by mean or median cost, and how it stands up to other seeds.

    Args:
        names: Of the contestants.
        costs: Lower is better, shape (contestants, seeds); infinite where one diverged or never got there.
        by: "mean": who lost fewer seeds, then the mean of the others. "median": the median, infinite where
            half of the seeds are; where medians are equal, the first rule.
        draws: Resamples, at least 1.
        seed: Of the resamples.

    Raises:
        InputError: no seeds, or no contestant.
    """
    c = np.asarray(costs, dtype=np.float64)
    if c.ndim != 2 or c.shape[0] != len(names) or not c.size:
        raise InputError(
            f"costs of shape {c.shape} for {len(names)} contestants: must be (contestants, seeds)"
        )
    n = c.shape[1]
    chosen = np.random.default_rng(seed).integers(0, n, (draws, n))
    own = _ahead(_keys(c[:, None, :], by))[:, 0]
    again = _ahead(_keys(c[:, chosen], by))
    least = again == 0
    shares = (least / least.sum(0)).mean(1)
    agreement = np.asarray([tau(own, again[:, i]) for i in range(draws)])
    order = np.argsort(own, kind="stable")
    places = again[order]
    kept = (places[1:] >= places[:-1]).all(0)
    tied = np.arange(len(names))[:, None] - places  # of those it is tied with, how many stand before it
    same = np.where(kept, 1.0 / np.clip(tied + 1, 1, None).prod(0), 0.0).mean()
    return Ranking(
        tuple(str(names[int(i)]) for i in order),
        {name: float(share) for name, share in zip(names, shares, strict=True)},
        float(same),
        float(agreement.mean()),
        tuple(int(own[i]) for i in order),
    )


def tau(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """Kendall's tau-a of two sets of costs: pairs in one order less those in the other, over all pairs."""
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if len(x) < 2:
        return 1.0
    i, j = np.triu_indices(len(x), 1)
    return float((_order(x[i], x[j]) * _order(y[i], y[j])).mean())


def _order(a: Floats, b: Floats) -> Floats:
    return (a > b).astype(np.float64) - (a < b).astype(np.float64)


def _keys(costs: Floats, by: By) -> Floats:
    """What is compared, the most important first: shape (2 or 3, contestants, resamples)."""
    gone = np.isinf(costs)
    lost = gone.sum(-1).astype(np.float64)
    sums = np.where(gone, 0.0, costs).sum(-1)
    ended = costs.shape[-1] - lost
    mean = np.where(ended > 0, sums / np.maximum(ended, 1.0), 0.0)
    if by == "mean":
        return np.stack([lost, mean])
    ordered = np.sort(costs, axis=-1)
    n = ordered.shape[-1]
    low, high = ordered[..., (n - 1) // 2], ordered[..., n // 2]
    return np.stack([np.where(np.isinf(high), np.inf, low / 2 + high / 2), lost, mean])


def _ahead(keys: Floats) -> npt.NDArray[np.int64]:
    """How many contestants are better, shape (contestants, resamples)."""
    count = keys.shape[1]
    worse = np.zeros((count, count, keys.shape[2]), dtype=bool)
    level = np.ones_like(worse)
    for key in keys:
        worse |= level & (key[:, None] > key[None, :])
        level &= key[:, None] == key[None, :]
    return worse.sum(1)
