"""Successive elimination: which remedies are worth another seed.

Remedies are compared on the same seeds (blocks), so that what a seed does to all of them cancels; one goes
out as soon as the 95 % interval of its paired difference from the leader lies below zero, or below what would
matter. Before there is an interval, after one seed, those go out that won less than half of what the leader
won. Sources: blocking races, Moore and Lee 1994, "Efficient algorithms for minimizing cross validation
error"; successive elimination, Even-Dar, Mannor and Mansour 2006, JMLR 7; the same random numbers for what is
compared, Law 2015, "Simulation modeling and analysis", section 11.2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TypeVar

from downslope.diagnosis.paired import difference

Key = TypeVar("Key")

BEHIND = 0.5
"""Share of the leader's win that a remedy must have after a single seed. Convention: one seed is no interval,
and less than half of a win is seldom noise."""

EQUAL = 0.02
"""Share of the leader's win within which two remedies are equal, and the smaller change is preferred.
Convention."""


def leader(gains: Mapping[Key, Sequence[float]]) -> Key | None:
    """Who won most in the mean; None where nobody won anything.

    Args:
        gains: Paired differences from the control, one a seed; as many seeds for all.
    """
    best = max(gains, key=lambda key: fmean(gains[key]), default=None)
    return best if best is not None and fmean(gains[best]) > 0 else None


def alive(gains: Mapping[Key, Sequence[float]]) -> list[Key]:
    """Those that can still be better than the leader, or as good, in their order.

    Args:
        gains: Paired differences from the control, one a seed; as many seeds for all.
    """
    first = leader(gains)
    if first is None:
        return []
    ahead = gains[first]
    top = fmean(ahead)
    if len(ahead) < 2:
        return [key for key in gains if fmean(gains[key]) >= BEHIND * top]
    return [key for key in gains if key == first or _can_tie(gains[key], ahead, top)]


def _can_tie(gains: Sequence[float], ahead: Sequence[float], top: float) -> bool:
    found = difference(gains, ahead)
    return found.high > -EQUAL * top and fmean(gains) >= BEHIND * top
