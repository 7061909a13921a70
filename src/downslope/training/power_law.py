"""A power law of error against data: ``E(n) = c + a n**-b``, with intervals that say what is not known.

Errors of trained models fall along such curves over decades of n, towards a floor c that no data takes away
(Cortes, Jackel, Solla, Vapnik and Denker 1994, Learning curves: asymptotic values and rate of convergence;
Hestness et al. 2017, arXiv 1712.00409).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from downslope.core.errors import InputError

Floats = npt.NDArray[np.float64]

EXPONENTS: Floats = np.geomspace(0.02, 4.0, 160)
"""Exponents that are tried; of a mean squared error the theory of linear models gives 1, of margins 1/2."""

LEVELS = 80
"""Values that are tried for what an interval is about."""


class Interval(NamedTuple):
    """An estimate and what the data leaves open."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3g} ({self.low:.3g} to {self.high:.3g})"


@dataclass(frozen=True, eq=False)
class PowerLaw:
    """``E(n) = floor + scale n**-exponent`` at its least squares, and the points that it came from.

    The squares are relative to the mean error of a size, as the spread between draws shrinks with the error.
    Intervals are those of the profile likelihood: all values at which the best of all other parameters is not
    worse than the whole best by more than an F distribution with 1 and N - 3 degrees allows (Bates and Watts
    1988, Nonlinear regression analysis, section 6.1). The floor is at least 0, and more data never harms.
    """

    floor: float
    scale: float
    exponent: float
    sizes: Floats
    errors: Floats
    weights: Floats
    limit: float
    """The sum of squares up to which a value counts as possible."""

    def at(self, n: float) -> Interval:
        """The error with `n` examples."""
        r = (n / self.sizes[None, :]) ** EXPONENTS[:, None]  # E_i = c (1 - r_i) + E(n) r_i, 0 <= c <= E(n)
        value = self.floor + self.scale * n**-self.exponent

        def best(level: Floats) -> Floats:
            a = 1 - r
            target = self.errors - level[:, None, None] * r
            slope = (self.weights * a * target).sum(2) / np.maximum((self.weights * a * a).sum(1), 1e-300)
            c = np.clip(slope, 0.0, level[:, None])[:, :, None]
            return (self.weights * (target - c * a) ** 2).sum(2).min(1)

        return self._between(value, best, float(self.errors.max()) * 2)

    def gain(self, n: float, times: float = 2.0) -> Interval:
        """By how much the error falls from `n` examples to `times` as many."""
        power = -EXPONENTS[:, None]
        drop = n**power - (times * n) ** power
        q = (self.sizes[None, :] ** power - n**power) / drop  # E_i = E(n) + gain q_i
        value = self.scale * (n**-self.exponent - (times * n) ** -self.exponent)
        total = self.weights.sum()

        def best(level: Floats) -> Floats:
            target = self.errors - level[:, None, None] * q
            least = level[:, None] * (n**power / drop)[:, 0]  # of E(n), so that the floor is not negative
            here = np.maximum((self.weights * target).sum(2) / total, least)[:, :, None]
            return (self.weights * (target - here) ** 2).sum(2).min(1)

        return self._between(value, best, float(self.errors.max()))

    def _between(self, value: float, best: Callable[[Floats], Floats], most: float) -> Interval:
        low, high, step = value, value, most
        for _ in range(3):  # each time closer around what was possible
            levels = np.linspace(max(low - step, 0.0), high + step, LEVELS)
            step = float(levels[1] - levels[0])
            possible = levels[best(levels) <= self.limit]
            if len(possible):
                low, high = min(float(possible[0]), value), max(float(possible[-1]), value)
        return Interval(value, low, high)


def fit_power_law(sizes: npt.ArrayLike, errors: npt.ArrayLike, confidence: float = 0.95) -> PowerLaw:
    """The power law through errors measured at several sizes, each from one draw of the data or more.

    Args:
        sizes: examples, shape (N,), at least three different ones.
        errors: at least 0, shape (N,), N at least 5.
        confidence: of the intervals, in (0, 1).

    Raises:
        InputError: fewer points or sizes, or an error that is negative or not finite.
    """
    n, e = np.asarray(sizes, dtype=float), np.asarray(errors, dtype=float)
    if n.shape != e.shape or n.ndim != 1 or len(n) < 5 or len(np.unique(n)) < 3:
        raise InputError(
            f"{len(n)} errors at {len(np.unique(n))} sizes: a power law has three parameters and needs five "
            "errors at three sizes or more; give more fractions or seeds"
        )
    if not np.isfinite(e).all() or (e < 0).any() or (n <= 0).any():
        raise InputError("errors must be finite and at least 0, sizes positive, for a power law to be fitted")
    means = np.asarray([e[n == each].mean() for each in n])
    weights = 1 / np.maximum(means, max(means.max() * 1e-3, 1e-12)) ** 2
    floor, scale, exponent, least = _least(n, e, weights)
    from scipy import stats

    spread = float(stats.f.ppf(confidence, 1, len(n) - 3)) / (len(n) - 3)
    return PowerLaw(floor, scale, exponent, n, e, weights, least * (1 + spread) + 1e-12)


def _least(n: Floats, e: Floats, w: Floats) -> tuple[float, float, float, float]:
    """Floor, scale, exponent and sum of squares; of each exponent the others by linear least squares."""
    x = n[None, :] ** -EXPONENTS[:, None]
    total = w.sum()
    mean_x, mean_e = (w * x).sum(1) / total, float((w * e).sum() / total)
    centred = x - mean_x[:, None]
    scale = np.maximum((w * centred * (e - mean_e)).sum(1) / (w * centred**2).sum(1), 0.0)
    floor = mean_e - scale * mean_x
    through = (w * x * e).sum(1) / (w * x * x).sum(1)  # where the floor would be negative
    scale: Floats = np.where(floor < 0, through, scale)
    floor: Floats = np.maximum(floor, 0.0)
    squares: Floats = (w * (e - floor[:, None] - scale[:, None] * x) ** 2).sum(1)
    at = int(np.argmin(squares))
    return float(floor[at]), float(scale[at]), float(EXPONENTS[at]), float(squares[at])
