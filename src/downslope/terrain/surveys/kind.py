"""What kind of point one stands at: a minimum, a maximum, a saddle, a plateau, or no critical point, a slope.

A pure function of what was measured there, in four questions. Everything is reckoned in the loss's own unit,
by what a move of a stated reach could change, because a gradient norm or an eigenvalue alone is small or
large only beside the size of the weights and of the loss.

1. Is the ground flat? Slope and curvature together change less than `FLAT` of the loss's scale over the
   reach: a plateau, unless the slope is nearly nothing beside the curvature (`CLEAR`) or zero to its
   rounding. Down the tail of a sigmoid both shrink alike; at a critical point the slope goes first.
2. Does the slope lead on? What it can win within the reach, ``max_d -g d - d |H| d / 2`` (the step of
   saddle-free Newton, Dauphin et al. 2014; for a convex quadratic the gap to its minimum), is more than
   `STILL` of the scale, more than the sampling noise of the gradient explains, and the critical point lies
   further than `NEAR` of the reach: a slope. So it does where Newton's step, taken and measured, wins that
   much beyond the reach: on the floor of a long valley that is not its bottom.
3. Signs of the eigenvalues beyond their errors: both, a saddle; none negative, a minimum; none positive, a
   maximum (Nocedal and Wright 2006, theorems 2.3 and 2.4). Next to a critical point and not at it, curvature
   down which the loss falls by less than the slope wins is taken for none: the next step may end it.
4. All eigenvalues zero (x^3, x^4, the origin of a deep linear net): the second-order test is silent, and the
   loss at samples around has to tell: lower and higher ones, a saddle; only higher ones, a minimum. Where
   some are zero and the others of one sign, samples along the flat directions may still make it a saddle
   (x^2 + y^3).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Kind = Literal["minimum", "maximum", "saddle", "plateau", "slope"]

STILL = 1e-3
"""Share of the loss's scale that the slope may still win at what counts as a critical point. Convention."""

FLAT = 0.01
"""Share of the loss's scale that a move by the reach could change on flat ground. Convention."""

NEAR = 1e-3
"""Share of the reach within which a critical point is at hand whatever the loss's scale: there the slope wins
the square of it of what curvature changes over the reach."""

CLEAR = 0.1
"""Share of what curvature changes that the slope may win where flat ground still counts as critical."""

REACH = 0.1
"""The move that is reckoned with, in the size of the weights."""


class View(NamedTuple):
    """What was measured at a point; every length and loss in the same units."""

    slope: float
    """What following the slope wins within the reach, in the loss's unit; ``reach * |g|`` bounds it."""
    high: float
    """Largest eigenvalue of the Hessian."""
    low: float
    """Smallest eigenvalue."""
    reach: float
    """Length of the move that is reckoned with."""
    scale: float
    """What counts as much of the loss: what its objective leaves to be won, or the way it has come."""
    high_error: float = 0.0
    """Residual and rounding of `high`."""
    low_error: float = 0.0
    """Residual and rounding of `low`."""
    exact: bool = False
    """Whether the gradient is zero to its rounding."""
    noise: bool = False
    """Whether the gradient is no larger than its sampling noise, that of the examples left out."""
    drop: float | None = None
    """How far the loss was seen to fall along the eigenvector of `low`; None where nobody looked."""
    falls: float | None = None
    """How far the loss falls, at most, at samples within the reach: along directions without curvature where
    there are others too. None where none were taken."""
    rises: float | None = None
    """How far it rises, at most."""
    rounding: float = 0.0
    """Rounding of the loss."""
    kink: bool = False
    """Whether it stands on a kink, so that samples told and not derivatives."""
    far: float = 0.0
    """How far the loss was seen to fall by Newton's step, however long it is."""
    away: float = 0.0
    """Length of that step."""
    looked: int = 0
    """Directions that samples were taken along."""
    gone: float = 0.0
    """Share of those samples at which the loss is not finite."""
    treads: bool = False
    """Whether the loss is piecewise constant, so that its slope is zero and tells nothing."""


class Judged(NamedTuple):
    """What it is, and how that is known."""

    kind: Kind
    strict: bool
    """Of a minimum or maximum, whether every eigenvalue has its sign beyond its error."""
    degenerate: bool
    """Whether the second-order test was silent, so that samples of the loss had to tell."""
    change: float
    """What slope and curvature could change over the reach, as a share of the scale."""


def classify(view: View, *, still: float = STILL, flat: float = FLAT, negative: float = 0.0) -> Judged:
    """The kind of a point.

    Args:
        view: What was measured.
        still: Share of the scale that the slope may win at a critical point, float in (0, 1).
        flat: Share of the scale that a move by the reach changes on flat ground, float in (0, 1).
        negative: Share of the largest eigenvalue's magnitude that one of the other sign must have to count,
            float in [0, 1).

    Returns:
        The kind; a saddle needs an eigenvalue below zero and one above it, each beyond its error.
    """
    scale = view.scale if view.scale > 0 else max(_bend(view, view.high, view.low), view.slope)
    scale = scale or 1.0
    bend = _bend(view, view.high, view.low)
    change = (view.slope + bend) / scale
    if view.away > view.reach and view.far > max(still * scale, view.rounding):
        return Judged("slope", False, False, change)
    if not view.exact:
        if change <= flat and view.slope > CLEAR * bend:
            return Judged("plateau", False, False, change)
        if view.slope > max(still * scale, NEAR**2 * bend) and not view.noise:
            return Judged("slope", False, False, change)
    down = _counts(view, -view.low, view.low_error, view.drop, negative)
    up = _counts(view, view.high, view.high_error)
    if down and up:
        return Judged("saddle", False, False, change)
    strict = view.low > view.low_error if up else view.high < -view.high_error
    if (up or down) and (strict or not _leads_out(view, view.falls if up else view.rises)):
        return Judged("minimum" if up else "maximum", strict, False, change)
    return Judged("saddle" if up or down else _by_samples(view), False, True, change)


def mirrored(judged: Judged, view: View) -> tuple[Judged, View]:
    """The same of minus the loss."""
    other: dict[Kind, Kind] = {"minimum": "maximum", "maximum": "minimum"}
    turned = view._replace(
        high=-view.low, low=-view.high, high_error=view.low_error, low_error=view.high_error,
        falls=view.rises, rises=view.falls,
    )  # fmt: skip
    return judged._replace(kind=other.get(judged.kind, judged.kind)), turned


def _bend(view: View, *values: float) -> float:
    """What curvature could change over the reach."""
    return 0.5 * view.reach**2 * max(abs(value) for value in values)


def _counts(view: View, value: float, error: float, seen: float | None = None, least: float = 0.0) -> bool:
    """Whether a curvature, taken as positive, is there beyond its error; the lesser sign of the two must also
    change more than the slope.
    """
    if not value > error or value < least * max(abs(view.high), abs(view.low)):
        return False
    main = value >= max(abs(view.high), abs(view.low))
    return main or view.exact or (_bend(view, value) if seen is None else seen) >= view.slope


def _leads_out(view: View, seen: float | None) -> bool:
    """Whether samples along directions of no curvature contradict the others."""
    return (seen or 0.0) > max(view.rounding, view.slope)


def _by_samples(view: View) -> Kind:
    """Where no eigenvalue tells: by the values around."""
    falls, rises = ((each or 0.0) > view.rounding for each in (view.falls, view.rises))
    if falls and rises:
        return "saddle"
    return "minimum" if rises else "maximum" if falls else "plateau"
