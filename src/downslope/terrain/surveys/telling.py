"""A survey in words: why a point is of its kind, what was measured, and what is to be known besides."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from downslope.core.numerals import loss as told_loss
from downslope.core.numerals import many, numeral
from downslope.terrain.surveys.ends import LOST, WIDER
from downslope.terrain.surveys.kind import NEAR, STILL, Judged, View

if TYPE_CHECKING:
    from torch import Tensor

    from downslope.terrain.noise import Noise
    from downslope.terrain.surveys.ends import Ends
    from downslope.terrain.surveys.terrain import Terrain

KINKS = {
    "Relu": "ReLU", "Threshold": "ReLU", "LeakyRelu": "leaky ReLU", "Prelu": "PReLU", "Hardtanh": "hardtanh",
    "Hardswish": "hardswish", "Hardsigmoid": "hardsigmoid", "MaxPool1D": "max pooling",
    "MaxPool2DWithIndices": "max pooling", "MaxPool3DWithIndices": "max pooling",
    "AdaptiveMaxPool2D": "max pooling", "Abs": "absolute value", "Clamp": "clamp", "ClampMin": "clamp",
    "ClampMax": "clamp", "Maximum": "maximum", "Minimum": "minimum", "Amax": "maximum", "Max": "maximum",
    "MaxPool2D": "max pooling", "MkldnnMaxPool2D": "max pooling",
}  # fmt: skip
"""Steps of a graph, without their "Backward0", that have no derivative somewhere."""


def why(judged: Judged, view: View) -> str:
    """Why it is of this kind, in one sentence."""
    low = within(view.low, view.low_error)
    high = within(view.high, view.high_error)
    little = "nothing" if view.slope == 0 else numeral(view.slope, 2)
    still = f"the slope could win {little} of {numeral(view.scale)} within a move of {numeral(view.reach)}"
    if view.slope > STILL * view.scale and judged.kind != "slope" and not (view.exact or view.noise):
        still = f"a critical point lies within {numeral(NEAR * view.reach)}, a thousandth of the reach"
    if view.kink:
        return _on_kink(judged, view)
    if view.treads:
        return (
            f"the loss is piecewise constant: its slope is zero wherever it was looked, and within "
            f"{numeral(view.reach)} it goes up by {numeral(view.rises or 0.0, 2)} and down by "
            f"{numeral(view.falls or 0.0, 2)} in steps"
        )
    match judged.kind:
        case "slope" if view.far > view.slope:
            return (
                f"{still}, but Newton's step, {numeral(view.away)} long, was seen to win "
                f"{numeral(view.far)}, so it leads on, along a narrow valley"
            )
        case "slope":
            return f"{still}, so it leads on"
        case "plateau":
            return (
                f"within a move of {numeral(view.reach)} slope and curvature could change the loss by "
                f"{numeral(100 * judged.change, 2)} % of its scale {numeral(view.scale)}"
            )
        case "saddle" if judged.degenerate and max(abs(view.low), abs(view.high)) > max(
            view.low_error, view.high_error
        ):
            return f"{still}, and along directions without curvature the loss goes the other way"
        case "saddle" if judged.degenerate:
            return "slope and curvature vanish, and around it the loss is lower here and higher there"
        case "saddle":
            return f"{still}, but curvature reaches from {low} to {high}"
        case "maximum" if judged.degenerate:
            return "slope and curvature vanish, and the loss is lower at every sample around"
        case "maximum":
            sign = "negative" if judged.strict else "positive"
            return f"{still}, and {'every' if judged.strict else 'no'} curvature is {sign} (largest {high})"
        case "minimum" if judged.degenerate and not view.rises:
            return "it is flat all around, and no value anywhere is lower"
        case "minimum" if judged.degenerate:
            return "slope and curvature vanish, and the loss is higher at every sample around"
        case "minimum" if view.low < -view.low_error:
            fall = "little" if view.drop is None else numeral(view.drop, 2)
            return f"{still}, and along what curvature is below zero (smallest {low}) only {fall}, measured"
        case "minimum":
            sign = "positive" if judged.strict else "negative"
            return f"{still}, and {'every' if judged.strict else 'no'} curvature is {sign} (smallest {low})"


def _on_kink(judged: Judged, view: View) -> str:
    said = {
        "minimum": "the loss is lower along none of the directions looked along, and higher along some",
        "maximum": "the loss is higher along none of the directions looked along, and lower along some",
        "saddle": "the loss is lower both ways along one direction, and higher along another",
        "slope": f"a move leads on by {numeral(view.slope, 2)}, in proportion to its length",
        "plateau": "the loss changes nowhere",
    }  # fmt: skip
    here = f"it stands on a kink, where samples tell and not derivatives; within {numeral(view.reach)}"
    return f"{here} {said[judged.kind]}"


def labelled(found: Terrain) -> list[tuple[str, str]]:
    """The measurements, each with a word in front."""
    values: list[float] = found.eigenvalues.tolist()
    errors: list[float] = found.residuals.tolist()
    pairs = [within(v, e) for v, e in zip(values, errors, strict=True)]
    told = [("loss", f"{told_loss(found.loss)}, slope {numeral(found.gradient_norm)}")]
    if math.isnan(values[0]):
        told.append(("curves", "not finite here"))
    elif len(pairs) == 1:
        told.append(("curves", f"one eigenvalue, {pairs[0]}"))
    else:
        shown = pairs[: min(3, len(pairs) - 1)]
        number = f"{len(pairs)} eigenvalues" if found.complete else "eigenvalues"
        told.append(("curves", f"{number}: {', '.join(shown)} ... {pairs[-1]}"))
    if not math.isnan(values[0]):
        told.append(("", _spread(found)))
    if found.escape is not None:
        told.append(("way", _way(found)))
    if found.stable_rates:
        rates = ", ".join(f"{name} {numeral(rate)}" for name, rate in found.stable_rates.items())
        told.append(("rates", f"stable up to {rates}"))
    if found.noise_scale is not None:
        told.append(("noise", _batch(found.noise_scale)))
    if found.convexity is not None:
        told.append(("problem", str(found.convexity)))
    if found.known is not None:
        told.append(("nearest", str(found.known)))
    return told


def _way(found: Terrain) -> str:
    """What the lowest curvature leads to."""
    way = found.escape
    if way is None:
        return ""
    along = f"along curvature {within(way.curvature, way.error)}"
    if way.sampled:
        along = "along a direction that samples found, and no curvature shows,"
    verb, other = ("rises", "fall") if found.maximize else ("falls", "rise")
    if way.fall <= 0:
        return f"{along} the loss only {other}s, on the moves that were measured"
    return f"{along} the loss {verb} by {numeral(way.fall)} after {numeral(way.at)}, measured"


def _spread(found: Terrain) -> str:
    """Condition, trace, negative and flat directions."""
    least = "" if found.complete else "at least "
    parts = [f"condition {least if math.isfinite(found.condition) else ''}{numeral(found.condition)}"]
    if math.isfinite(found.trace):
        parts.append(f"trace {within(found.trace, found.trace_error)}")
    if found.index:
        parts.append(f"{least}{many(found.index, 'negative direction')}")
    if (mass := found.negative_mass) is not None and not found.complete:
        share = found.density.negative if found.density is not None else None
        ends = ""
        if share is not None and share.probes:
            ends = f" ({numeral(100 * share.low, 2)} to {numeral(100 * share.high, 2)})"
        parts.append(f"{numeral(100 * mass, 2)} %{ends} of all negative")
    if found.flat:
        parts.append(f"{least}{many(found.flat, 'flat direction')}")
    return ", ".join(parts)


def _batch(noise: Noise) -> str:
    """The noise scale in words, and where it lies if both moments are off by their standard error."""
    if not math.isfinite(noise.scale):
        least = f"; the batch is {numeral(noise.low, 2)} at least" if math.isfinite(noise.low) else ""
        return f"no signal of the gradient stands out of its noise over the examples{least}"
    told = f"signal and noise of the gradient balance at a batch of {numeral(noise.scale)}"
    if math.isnan(noise.trace_error):
        return told
    most = f"to {numeral(noise.high, 2)}" if math.isfinite(noise.high) else "or more"
    return f"{told} ({numeral(noise.low, 2)} {most}, within standard errors)"


def within(value: float, error: float) -> str:
    """A value with its error."""
    return numeral(value) + (f" +- {numeral(error, 2)}" if error else "")


def of_view(view: View, judged: Judged, found: Ends, exact: bool) -> list[str]:
    """What is to be known of how the kind was told."""
    notes: list[str] = []
    if not found.settled and not view.kink and judged.kind in ("minimum", "saddle", "maximum"):
        low = numeral(view.low - view.low_error)
        said = "the smallest eigenvalue has not converged"
        notes.append(
            f"undecided: no negative curvature found below {low}; {said}"
            if judged.kind == "minimum" else f"{said}: there may be one below {low}"
        )  # fmt: skip
    if judged.kind == "minimum" and view.low < -view.low_error:
        notes.append(
            f"some curvature is negative, {within(view.low, view.low_error)}, but it counts for nothing: "
            f"along it the loss falls by {numeral(view.drop, 2)}, less than the slope could win"
        )
    elif judged.kind == "minimum" and not judged.strict and not judged.degenerate and not view.kink:
        notes.append(
            "not strict: some curvature is zero within its error, so this may be a valley, or a saddle that "
            "shows only beyond second order and that no sample along it found"
        )
    if view.gone:
        notes.append(
            f"{numeral(100 * view.gone, 2)} % of the samples around are not finite: it stands at an edge of "
            "where the loss is defined, and what is told holds on this side of it"
        )
    sampled = (judged.degenerate or view.kink) and judged.kind in ("minimum", "maximum")
    if sampled and found.vectors.shape[-1] > view.looked > 0:
        other = "down" if judged.kind == "minimum" else "up"
        notes.append(
            f"told from samples along {view.looked} directions of {found.vectors.shape[-1]}: a way {other} "
            "along others may have been missed"
        )
    if view.noise and judged.kind != "plateau":
        notes.append(
            "the slope is within the noise of the examples left out, and counts as none; examples='all' "
            "decides"
        )
    if not exact:
        notes.append("the model has no second derivative, so products are differences of gradients")
    return notes


def of_lost(*, narrow: bool) -> str:
    """What is to be known where the curvature is not finite; `narrow` where float64 may mend that."""
    said = f"{LOST}: a square root or a norm at zero, or an overflow; samples of the loss told the kind"
    return f"{said}; {WIDER}" if narrow else said


def of_loss(loss: Tensor) -> list[str]:
    """What the graph of a loss says of kinks, across which it bends without that any Hessian sees it."""
    seen: set[Any] = set()
    found: dict[str, None] = {}
    ahead: list[Any] = [loss.grad_fn]
    while ahead:
        node = ahead.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        name = type(node).__name__.partition("Backward")[0]
        if name in KINKS:
            found[KINKS[name]] = None
        ahead += [following for following, _ in node.next_functions]
    if not found:
        return []
    return [
        f"kinks ({', '.join(found)}): this is the curvature of the smooth piece here, and bends at its edges "
        "are not in it"
    ]


def of_cuts(left_out: Sequence[str], *, interrupted: bool) -> list[str]:
    """What was not measured, and why."""
    if not left_out:
        return []
    reason = "interrupted" if interrupted else "out of time"
    return [f"{reason}: not measured are {', '.join(left_out)}"]
