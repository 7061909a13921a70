"""The line search of Moré and Thuente (1994, ACM Transactions on Mathematical Software 20), as in MINPACK-2.

An interval [x, y] that holds a point of both of Wolfe's conditions shrinks round it; the next trial is the
minimum of a cubic or a parabola through what is known, by four cases (section 4 of the paper). While no
trial has both fallen enough and turned upwards, the modified function ``phi(t) - phi(0) - c1 t phi'(0)``
stands in. This is the search of SciPy's L-BFGS-B and CG, trial by trial.
"""

from __future__ import annotations

import math

from downslope.terrain.methods.line_search import Line, Trial, lowest

XTOL = 0.1
"""Relative width of the interval at which the search ends, as in L-BFGS-B."""


def more_thuente(
    line: Line,
    t: float = 1.0,
    *,
    c1: float = 1e-3,
    c2: float = 0.9,
    max_eval: int = 20,
    xtol: float = XTOL,
    longest: float = 1e10,
) -> Trial | None:
    """A point of both of Wolfe's conditions; arguments as of `strong_wolfe`, and two more.

    Args:
        line: Falling at 0.
        t: First trial.
        c1: Of Armijo.
        c2: Of Wolfe.
        max_eval: Looks.
        xtol: Relative width of the interval at which the best is taken.
        longest: Largest t.

    Returns:
        The point, at which the ground stands, or the lowest found where rounding or the width ended the
        search; None where none falls, and the ground is back at 0.
    """
    return _Search(line, c1, c2, xtol, longest).run(t, max_eval)


def _tilted(e: Trial, slope: float) -> Trial:
    """A point of ``phi(t) + slope t``."""
    return e._replace(value=e.value + slope * e.t, slope=e.slope + slope)


class _Search:
    """The state of one search; names are those of the paper, values those above the start's."""

    def __init__(self, line: Line, c1: float, c2: float, xtol: float, longest: float) -> None:
        self.line, self.c1, self.c2, self.xtol, self.longest = line, c1, c2, xtol, longest
        self.gtest = c1 * line.start.slope
        self.best = line.start
        self.x = self.y = line.start._replace(value=0.0)
        self.bracketed, self.second = False, False
        self.width, self.width1 = longest, 2 * longest
        self.low, self.high = 0.0, math.inf

    def run(self, t: float, max_eval: int) -> Trial | None:
        line = self.line
        self.low, self.high = 0.0, 5 * t
        while line.evaluations < max_eval:
            trial = line.at(t)
            if not trial.finite:
                self.longest = t
                t = self.x.t + 0.1 * (t - self.x.t)
                continue
            if line.rise(trial) < line.rise(self.best):
                self.best = trial
            fell = line.falls(trial, self.c1)
            if (fell and line.flattens(trial, self.c2)) or line.level(trial, self.c1, self.c2):
                return trial
            if self._over(trial, fell):
                break
            t = self._next(trial, fell)
        return lowest(line, self.best, self.c1)

    def _over(self, trial: Trial, fell: bool) -> bool:
        """Whether rounding, the width, or the longest step ends the search."""
        outside = trial.t <= self.low or trial.t >= self.high
        narrow = self.high - self.low <= self.xtol * self.high
        if self.bracketed and (outside or narrow):
            return True
        return trial.t >= self.longest and fell and trial.slope <= self.gtest

    def _next(self, trial: Trial, fell: bool) -> float:
        if not self.second and fell and trial.slope >= 0:
            self.second = True
        p = trial._replace(value=self.line.rise(trial))
        if not self.second and p.value <= self.x.value and not fell:
            g = self.gtest
            x, y, p = (_tilted(e, -g) for e in (self.x, self.y, p))
            x, y, t = self._shrunk(x, y, p)
            self.x, self.y = (_tilted(e, g) for e in (x, y))
        else:
            self.x, self.y, t = self._shrunk(self.x, self.y, p)
        if self.bracketed:
            if abs(self.y.t - self.x.t) >= 0.66 * self.width1:
                t = self.x.t + 0.5 * (self.y.t - self.x.t)
            self.width1, self.width = self.width, abs(self.y.t - self.x.t)
            self.low, self.high = min(self.x.t, self.y.t), max(self.x.t, self.y.t)
        else:
            self.low, self.high = t + 1.1 * (t - self.x.t), t + 4.0 * (t - self.x.t)
        t = min(max(t, 0.0), self.longest)
        narrow = self.high - self.low <= self.xtol * self.high
        return self.x.t if self.bracketed and (t <= self.low or t >= self.high or narrow) else t

    def _shrunk(self, x: Trial, y: Trial, p: Trial) -> tuple[Trial, Trial, float]:
        """The interval with the trial `p` in it, and the next trial."""
        turned = p.slope * x.slope < 0
        if p.value > x.value:
            t = _higher(x, p)
            self.bracketed = True
        elif turned:
            t = _turned(x, p)
            self.bracketed = True
        elif abs(p.slope) < abs(x.slope):
            t = self._flatter(x, y, p)
        elif self.bracketed:
            t = p.t + _share(p, y, 3.0 * (p.value - y.value) / (y.t - p.t)) * (y.t - p.t)
        else:
            t = self.high if p.t > x.t else self.low
        if p.value > x.value:
            return x, p, t
        return p, (x if turned else y), t

    def _flatter(self, x: Trial, y: Trial, p: Trial) -> float:
        """Case 3: lower, of the same sign, flatter: the cubic only where it turns beyond the trial."""
        theta = 3 * (x.value - p.value) / (p.t - x.t) + x.slope + p.slope
        s = max(abs(theta), abs(x.slope), abs(p.slope))
        gamma = s * math.sqrt(max(0.0, (theta / s) ** 2 - (x.slope / s) * (p.slope / s)))
        gamma = -gamma if p.t > x.t else gamma
        r = ((gamma - p.slope) + theta) / ((gamma + (x.slope - p.slope)) + gamma)
        if r < 0 and gamma != 0:
            by_cubic = p.t + r * (x.t - p.t)
        else:
            by_cubic = self.high if p.t > x.t else self.low
        by_secant = p.t + p.slope / (p.slope - x.slope) * (x.t - p.t)
        nearer = abs(by_cubic - p.t) < abs(by_secant - p.t)
        if not self.bracketed:
            farther = by_secant if nearer or abs(by_cubic - p.t) == abs(by_secant - p.t) else by_cubic
            return min(max(farther, self.low), self.high)
        t = by_cubic if nearer else by_secant
        bound = p.t + 0.66 * (y.t - p.t)
        return min(bound, t) if p.t > x.t else max(bound, t)


def _higher(x: Trial, p: Trial) -> float:
    """Case 1: higher, a minimum is bracketed: the cubic where it is nearer to x, else between both."""
    theta = 3.0 * (x.value - p.value) / (p.t - x.t) + x.slope + p.slope
    s = max(abs(theta), abs(x.slope), abs(p.slope))
    gamma = s * math.sqrt(max(0.0, (theta / s) ** 2 - (x.slope / s) * (p.slope / s)))
    gamma = -gamma if p.t < x.t else gamma
    r = ((gamma - x.slope) + theta) / (((gamma - x.slope) + gamma) + p.slope)
    by_cubic = x.t + r * (p.t - x.t)
    by_parabola = x.t + x.slope / ((x.value - p.value) / (p.t - x.t) + x.slope) / 2.0 * (p.t - x.t)
    if abs(by_cubic - x.t) <= abs(by_parabola - x.t):
        return by_cubic
    return by_cubic + (by_parabola - by_cubic) / 2.0


def _turned(x: Trial, p: Trial) -> float:
    """Case 2: lower, of the other sign: the one of cubic and secant that is farther from the trial."""
    by_cubic = p.t + _share(p, x, 3 * (x.value - p.value) / (p.t - x.t)) * (x.t - p.t)
    by_secant = p.t + p.slope / (p.slope - x.slope) * (x.t - p.t)
    return by_cubic if abs(by_cubic - p.t) > abs(by_secant - p.t) else by_secant


def _share(p: Trial, other: Trial, rise: float) -> float:
    """How far on the way from `p` to `other` the minimum of their cubic lies."""
    theta = rise + other.slope + p.slope
    s = max(abs(theta), abs(other.slope), abs(p.slope))
    gamma = s * math.sqrt(max(0.0, (theta / s) ** 2 - (other.slope / s) * (p.slope / s)))
    gamma = -gamma if p.t > other.t else gamma
    return ((gamma - p.slope) + theta) / (((gamma - p.slope) + gamma) + other.slope)
