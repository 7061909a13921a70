"""Where the contestants end: levels and paired differences, with Student's intervals.

    mean +- t_{n-1}(.975) s / sqrt(n)                                                       (Student 1908)

of the seeds that ended; those that diverged are counted beside them. The interval of a difference is of the
pairs in which both ended. Who is better is decided by `downslope.racing.sequential`, which counts every pair.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Level(NamedTuple):
    """A mean over seeds and its 95 % interval."""

    mean: float
    """NaN where no seed ended."""
    low: float
    """NaN with fewer than two seeds."""
    high: float
    median: float
    """Of all seeds, diverged ones as the worst; NaN where half of them diverged."""
    ended: int
    lost: int
    """Seeds that diverged or failed."""


def level_of(
    levels: Sequence[float], *, up: bool = False, within: tuple[float, float] = (-math.inf, math.inf)
) -> Level:
    """Mean, interval and median of levels.

    Args:
        levels: One a seed, NaN where it was lost.
        up: Whether higher is better, so that lost seeds lie below all others.
        within: What a level can be: the interval ends there at the latest.
    """
    found = np.asarray(levels, dtype=np.float64)
    ended = found[np.isfinite(found)]
    mean, low, high = interval(ended.tolist())
    low, high = max(low, within[0]), min(high, within[1])
    ordered = sorted(np.where(np.isfinite(found), -found if up else found, math.inf).tolist())
    n = len(ordered)
    middle = (ordered[(n - 1) // 2] + ordered[n // 2]) / 2 if n else math.inf
    median = math.nan if math.isinf(middle) else -middle if up else middle
    return Level(mean, low, high, median, len(ended), n - len(ended))


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean and the ends of its 95 % interval; NaN ends with fewer than two values."""
    found = np.asarray(values, dtype=np.float64)
    n = len(found)
    if not n:
        return math.nan, math.nan, math.nan
    mean = float(found.mean())
    if n < 2:
        return mean, math.nan, math.nan
    from scipy.special import stdtrit

    half = float(stdtrit(n - 1, 0.975)) * float(found.std(ddof=1)) / math.sqrt(n)
    return mean, mean - half, mean + half


def differences(first: Sequence[float], second: Sequence[float]) -> list[float]:
    """``second - first`` of costs, pair by pair: positive where the first is better.

    Infinite where only one diverged, NaN where both did: that says nothing.
    """
    pairs = zip(first, second, strict=False)
    return [math.nan if math.isinf(a) and math.isinf(b) else b - a for a, b in pairs]
