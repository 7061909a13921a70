"""Whether a batch is large enough that its curvature is that of the whole: its two halves compared.

A method that steps by curvature divides by it, so that an error in it is an error in the step; a gradient's
noise is averaged over steps, a curvature's is not (Byrd, Chin, Neveitt and Nocedal 2011, SIAM Journal on
Optimization 21). The difference of two halves falls with the root of their size.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from downslope.terrain.ground.ground import Ground
from downslope.terrain.hvp import length

ALLOWED = 0.5
"""Difference up to which nothing is said: the curvature of the whole batch is then right to about a quarter,
which is what a line search puts right."""

STRAY = 1.0
"""The same of the gradient: that of the whole batch is then right to about a half, and its step still goes
down on the batches to come."""


class Halves(NamedTuple):
    """How far two halves of a batch differ, relative to their mean; about 2 with nothing in common."""

    slope: float
    """Of the gradient."""
    curvature: float
    """Of the curvature along the gradient of both."""

    @property
    def small(self) -> bool:
        """Whether they differ by more than is allowed: a NaN does."""
        return not (self.curvature <= ALLOWED and self.slope <= STRAY)

    def needed(self, size: int) -> int:
        """Examples at which two halves would differ by what is allowed, to the next power of two.

        Args:
            size: Of the batch that was halved; where they differ by more, what is needed is more than that.
        """
        times = max(self.curvature / ALLOWED, self.slope / STRAY) ** 2
        wanted = math.ceil(size * times) if math.isfinite(times) else 2 * size
        return 1 << (max(wanted, 1) - 1).bit_length()

    @property
    def said(self) -> str:
        """What differs by more than is allowed, with figures."""
        found = [
            f"{name} of two halves differs by {100 * value:.0f} %"
            for name, value, most in (("curvature", self.curvature, ALLOWED), ("gradient", self.slope, STRAY))
            if not value <= most
        ]
        return " and the ".join(found)


def halves(first: Ground, second: Ground) -> Halves:
    """Compare two grounds of the same parameters; two gradients and two products.

    Args:
        first: Of one half.
        second: Of the other.
    """
    (_, a), (_, b) = first.slope(), second.slope()
    along = 0.5 * (a + b)
    u, v = first.hessian().product(along), second.hessian().product(along)
    return Halves(_share(length(a - b), length(along)), _share(length(u - v), 0.5 * length(u + v)))


def _share(difference: float, whole: float) -> float:
    return difference / whole if whole else 2.0 * bool(difference)
