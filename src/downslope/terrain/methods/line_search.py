"""The function along a line, and how far to go on it: Armijo's condition by backtracking, Wolfe's by zooming.

    Armijo    phi(t) <= phi(0) + c1 t phi'(0)
    Wolfe     |phi'(t)| <= c2 |phi'(0)|

Where the loss no longer tells points apart, because they differ by less than its rounding, the slopes decide
(Hager and Zhang 2005, SIAM Journal on Optimization 16, equation 4.1): an "approximate Wolfe" condition.
`more_thuente` is a third search, in a file of its own.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from downslope.terrain.ground import Ground

ROUNDINGS = 16
"""Roundings of the loss below which two losses count as one."""


class Trial(NamedTuple):
    """A point on a line."""

    t: float
    value: float
    slope: float
    """Along the line."""
    x: Tensor
    gradient: Tensor

    @property
    def finite(self) -> bool:
        """Whether loss and slope are numbers."""
        return math.isfinite(self.value) and math.isfinite(self.slope)


class Line:
    """``phi(t) = f(x + t d)``, counting its looks.

    Args:
        ground: Of f; left where the last look was.
        x: Where the line begins, flat.
        direction: d, flat.
        value: f(x).
        gradient: Of f at x, flat.

    Attributes:
        start: The point at 0.
        evaluations: Looks so far.
        rounding: By which two losses may differ and be the same.
    """

    def __init__(self, ground: Ground, x: Tensor, direction: Tensor, value: float, gradient: Tensor) -> None:
        self.ground, self.direction = ground, direction
        self.start = Trial(0.0, value, dot(gradient, direction), x, gradient)
        self.evaluations = 0
        self.rounding = rounding(value, x.dtype)
        self._ulp = torch.finfo(x.dtype).eps * abs(value)
        self._nearest: Trial | None = None

    def at(self, t: float) -> Trial:
        """Look at the point `t` along the line, and stay there."""
        x = self.start.x + t * self.direction
        self.ground.put(x)
        value, gradient = self.ground.slope()
        self.evaluations += 1
        trial = Trial(t, value, dot(gradient, self.direction), x, gradient)
        if trial.finite and 4 * self._ulp <= abs(self.start.slope * t):
            self._nearest = trial if self._nearest is None or t < self._nearest.t else self._nearest
        return trial

    @property
    def drowned(self) -> bool:
        """Whether the losses near the start are rounding: they change otherwise than the slope there can say.

        Losses that are sums of what cancels (a cross-entropy of confident outputs) are rounded far more
        coarsely than their own size tells.
        """
        if self._nearest is None:
            return self.evaluations > 0
        rise = self._nearest.value - self.start.value
        promised = self.start.slope * self._nearest.t
        return unlike(rise, promised)

    def settle(self, trial: Trial) -> None:
        """Go to a point looked at before."""
        self.ground.put(trial.x)

    def rise(self, trial: Trial) -> float:
        """How far a point lies above the start; where rounding hides it, by the parabola of both slopes.

        A slope that has become steeper is no news of a minimum, and may be that of a wrong gradient.
        """
        rise = trial.value - self.start.value
        if not (abs(rise) <= self.rounding and trial.slope >= self.start.slope):
            return rise
        return min(max(0.5 * trial.t * (self.start.slope + trial.slope), -self.rounding), self.rounding)

    def falls(self, trial: Trial, c1: float) -> bool:
        """Armijo's condition."""
        return trial.finite and self.rise(trial) <= c1 * trial.t * self.start.slope

    def flattens(self, trial: Trial, c2: float) -> bool:
        """The strong form of Wolfe's second condition."""
        return abs(trial.slope) <= c2 * abs(self.start.slope)

    def level(self, trial: Trial, c1: float, c2: float) -> bool:
        """Whether the losses are one within rounding, and the slope is smaller: the approximate condition."""
        same = trial.finite and abs(trial.value - self.start.value) <= self.rounding
        return same and c2 * self.start.slope <= trial.slope <= (2 * c1 - 1) * self.start.slope


def rounding(value: float, dtype: torch.dtype) -> float:
    """By how much two losses of about `value` may differ and be the same."""
    return ROUNDINGS * torch.finfo(dtype).eps * abs(value)


def unlike(change: float, promised: float) -> bool:
    """Whether a change of the loss has neither the size that was promised nor one of its order."""
    return not 0.25 * abs(promised) <= abs(change) <= 4 * abs(promised)


def dot(a: Tensor, b: Tensor) -> float:
    """The inner product."""
    return float(torch.dot(a, b))


def backtracking(line: Line, t: float = 1.0, *, c1: float = 1e-4, max_eval: int = 25) -> Trial | None:
    """The first point that falls enough, from `t` back towards 0 (Nocedal and Wright 2006, algorithm 3.1).

    Each step back goes to the minimum of the parabola through what is known (their equation 3.58), kept
    within a tenth and a half of the last; a point that is not finite is halved four times.

    Args:
        line: Falling at 0.
        t: First trial, in (0, inf).
        c1: Of Armijo, in (0, 1/2).
        max_eval: Looks at most.

    Returns:
        The point, at which the ground stands; None where none was found, and the ground is back at 0.
    """
    for _ in range(max_eval):
        trial = line.at(t)
        if line.falls(trial, c1) or line.level(trial, c1, 0.9):
            return trial
        if not trial.finite:
            t /= 16
            continue
        rise = line.rise(trial) - t * line.start.slope
        best = -0.5 * line.start.slope * t * t / rise if rise > 0 else 0.5 * t
        t = min(max(best, 0.1 * t), 0.5 * t)
    line.settle(line.start)
    return None


def strong_wolfe(
    line: Line, t: float = 1.0, *, c1: float = 1e-4, c2: float = 0.9, max_eval: int = 25
) -> Trial | None:
    """A point of both conditions: bracketed, then zoomed in (Nocedal and Wright 2006, algorithms 3.5, 3.6).

    Args:
        line: Falling at 0.
        t: First trial, in (0, inf).
        c1: Of Armijo, in (0, c2).
        c2: Of Wolfe, in (c1, 1).
        max_eval: Looks at most.

    Returns:
        The point, or the lowest that falls enough if no look met both; None as for `backtracking`.
    """
    before, upper = line.start, math.inf
    best: Trial | None = None
    while line.evaluations < max_eval:
        trial = line.at(t)
        if not trial.finite:
            upper = t
            t = before.t + 0.1 * (t - before.t)
            continue
        if _good(line, trial, c1, c2):
            return trial
        if not line.falls(trial, c1) or (before.t and line.rise(trial) >= line.rise(before)):
            return _zoom(line, before, trial, c1, c2, max_eval)
        if trial.slope >= 0:
            return _zoom(line, trial, before, c1, c2, max_eval)
        before = best = trial
        t = min(4.0 * t, 0.5 * (t + upper))
    return lowest(line, best, c1)


def _good(line: Line, trial: Trial, c1: float, c2: float) -> bool:
    return (line.falls(trial, c1) and line.flattens(trial, c2)) or line.level(trial, c1, c2)


def _zoom(line: Line, low: Trial, high: Trial, c1: float, c2: float, max_eval: int) -> Trial | None:
    """Algorithm 3.6: `low` is the lowest point that falls enough, and a good one lies between the two."""
    while line.evaluations < max_eval and abs(high.t - low.t) > 1e-16 * max(abs(high.t), abs(low.t)):
        trial = line.at(_between(line, low, high))
        if _good(line, trial, c1, c2):
            return trial
        if not line.falls(trial, c1) or line.rise(trial) >= line.rise(low):
            high = trial
            continue
        if trial.slope * (high.t - low.t) >= 0:
            high = low
        low = trial
    return lowest(line, low, c1)


def _between(line: Line, low: Trial, high: Trial) -> float:
    """The minimum of the cubic through two points (equation 3.59), away from both ends; else the middle."""
    middle = 0.5 * (low.t + high.t)
    if not high.finite:
        return low.t + 0.1 * (high.t - low.t)
    t = cubic(low.t, line.rise(low), low.slope, high.t, line.rise(high), high.slope)
    margin = 0.1 * abs(high.t - low.t)
    inside = min(low.t, high.t) + margin <= t <= max(low.t, high.t) - margin
    return t if inside else middle


def cubic(a: float, fa: float, da: float, b: float, fb: float, db: float) -> float:
    """Minimum of the cubic with these values and slopes at `a` and `b`; NaN where it has none."""
    d1 = da + db - 3 * (fa - fb) / (a - b)
    square = d1 * d1 - da * db
    if not square >= 0:
        return math.nan
    d2 = math.copysign(math.sqrt(square), b - a)
    below = db - da + 2 * d2
    return b - (b - a) * (db + d2 - d1) / below if below else math.nan


def lowest(line: Line, best: Trial | None, c1: float) -> Trial | None:
    """The best found where no look met both conditions, if it falls enough; else back to the start."""
    lower = best is not None and best.value < line.start.value and line.falls(best, c1)
    kept = best if lower else None
    line.settle(kept or line.start)
    return kept
