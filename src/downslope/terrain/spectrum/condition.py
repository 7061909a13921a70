"""The condition number from the extreme eigenvalues, or what they leave of it."""

from __future__ import annotations

import math
from typing import NamedTuple

from downslope.terrain.spectrum.extremes import Spectrum


class Condition(NamedTuple):
    """Largest over smallest eigenvalue in magnitude, ``max |lambda| / min |lambda|``."""

    value: float
    """The estimate; the lower bound where `bound` is True; NaN where nothing finite was found."""
    low: float
    """By the errors of both eigenvalues; by residuals, and so in any case, where `bound` is True."""
    high: float
    """Infinite where nothing rules a smaller eigenvalue out."""
    bound: bool
    """Whether only a lower bound is known: the operator is indefinite, so that the smallest magnitude lies
    inside the spectrum, or its smallest eigenvalue has not converged."""
    largest: float
    """Largest magnitude found."""
    smallest: float
    """Smallest magnitude found."""


def condition(found: Spectrum) -> Condition:
    """How unequal the curvatures are: plain descent takes about this many steps for a factor e.

    Args:
        found: From `extremes`, at least one pair of each end.

    Returns:
        The number with its interval. For a definite operator whose ends have converged it is known; else it
        is at least ``(max |value| - error) / min (|value| + residual)``, since an eigenvalue lies within each
        residual.
    """
    values, errors, residuals = found.values, found.errors, found.residuals
    if not len(values) or not bool(values.isfinite().all()):
        return Condition(math.nan, 1.0, math.inf, True, math.nan, math.nan)
    magnitudes = values.abs()
    at, least = int(magnitudes.argmax()), int(magnitudes.argmin())
    largest, smallest = float(magnitudes[at]), float(magnitudes[least])
    definite = float(values[0]) * float(values[-1]) > 0 and 0 < found.top < len(values)
    settled = float(errors[least]) < 0.5 * smallest and found.status in ("converged", "exhausted")
    if (definite and settled) or (found.status == "exhausted" and smallest > float(errors[least])):
        low = (largest - float(errors[at])) / (smallest + float(errors[least]))
        high = (largest + float(errors[at])) / (smallest - float(errors[least]))
        return Condition(largest / smallest, max(low, 1.0), high, False, largest, smallest)
    floor = float((magnitudes + residuals).min())
    low = max((largest - float(residuals[at])) / floor if floor else math.inf, 1.0)
    return Condition(low, low, math.inf, True, largest, smallest)
