"""Paired differences over seeds, with the interval that Student's t gives them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
"""Quantile .975 of Student's t at 1 to 10 degrees of freedom (Student 1908; NIST handbook, 1.3.6.7.2)."""


class Difference(NamedTuple):
    """The mean of paired differences and its 95 % interval."""

    mean: float
    low: float
    """NaN with a single pair."""
    high: float
    pairs: int

    @property
    def sure(self) -> bool:
        """Whether the interval lies above zero."""
        return self.low > 0

    def within(self, least: float, most: float) -> Difference:
        """The same, its interval cut at what a difference can be; where it is above zero it stays so."""
        return self._replace(low=max(self.low, least), high=min(self.high, most)) if self.pairs > 1 else self


NO_DIFFERENCE = Difference(math.nan, math.nan, math.nan, 0)
"""Of what was not tried."""


def difference(after: Sequence[float], before: Sequence[float]) -> Difference:
    """``after - before``, pair by pair: ``mean +- t s / sqrt(n)``.

    Args:
        after: One value a seed, higher is better.
        before: The control's from the same seeds.

    Returns:
        Mean and interval; with one pair the interval is NaN, so that nothing is sure.
    """
    gaps = np.asarray(after, dtype=np.float64) - np.asarray(before, dtype=np.float64)
    n, mean = len(gaps), float(gaps.mean())
    if n < 2:
        return Difference(mean, math.nan, math.nan, n)
    quantile = _T95[min(n - 1, len(_T95)) - 1]
    half = quantile * float(gaps.std(ddof=1)) / math.sqrt(n)
    return Difference(mean, mean - half, mean + half, n)
