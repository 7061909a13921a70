"""The terrain as terminal rows, as a section of the page, and as a plotly figure."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from downslope.core.numerals import many
from downslope.reporting import console
from downslope.reporting.figure import Choice, Figure, Trace, finite
from downslope.reporting.markup import Section, table, text
from downslope.reporting.numerals import duration, numeral
from downslope.reporting.rows import LABEL, Row, Tone

if TYPE_CHECKING:
    from downslope.terrain.spectrum import Density
    from downslope.terrain.surveys.terrain import Escape, Terrain

BAR = 24
"""Columns of the longest bar in the terminal."""

_TONES: dict[str, Tone] = {
    "minimum": "good", "maximum": "warn", "saddle": "bad", "plateau": "bad", "slope": "plain",
}  # fmt: skip

_COLOURS = {
    "@accent": "#2456c9", "@valid": "#b8560b", "@muted": "#59636e", "@good": "#17703f", "@bad": "#b3203c",
}  # fmt: skip
"""What the page's colours are where there is no page."""


# -- the terminal ----------------------------------------------------------------------------------------


def rows(
    found: Terrain, task: str | None = None, name: str = "", at: str = "", written: Path | None = None
) -> list[Row]:
    """The survey in the order one reads: where, what it is and why, the numbers, the layers, what to do.

    Args:
        found: The survey.
        task: TASK as the next command has to say it.
        name: Of the problem.
        at: "last" or "best" model of a run, or "start".
        written: Path of the report.
    """
    where = "at the start" if at == "start" else f"{at} model" if at else ""
    parts = (
        name, where, many(found.size, "parameter"), many(found.examples, "example"),
        many(found.products, "product"), duration(found.seconds),
    )  # fmt: skip
    told = [
        Row("  ".join(each for each in parts if each), tone="strong"),
        Row(f"{found.kind.upper()}: {found.why}", tone=_TONES[found.kind]),
    ]
    told += [Row(line, label=label) if label else Row(line, indent=LABEL) for label, line in found.labelled()]
    told += _layers(found)
    told += [Row(note, label="note", tone="faint") for note in found.notes]
    told += [Row(advice(found, at), label="do")]
    return [*told, *_next(found, task, at, written)]


def _layers(found: Terrain) -> list[Row]:
    """A bar for each layer: the largest eigenvalue of its block, its trace beside it."""
    if len(found.layers) < 2:
        return []
    sizes = [each.sharpness if math.isfinite(each.sharpness) else 0.0 for each in found.layers]
    most, width = max([*sizes, 1e-300]), min(max(len(each.name) for each in found.layers), 24)
    told: list[Row] = []
    for each, size in zip(found.layers, sizes, strict=True):
        bar = "#" * max(round(BAR * size / most), 0)
        sharp = numeral(each.sharpness) if math.isfinite(each.sharpness) else "not measured"
        trace = numeral(each.trace) + (f" +- {numeral(each.trace_error, 2)}" if each.trace_error else "")
        line = f"{each.name[-width:]:<{width}}  {bar:<{BAR}}  {sharp:>8}  trace {trace}"
        told.append(Row(line, indent=LABEL, whole=True) if told else Row(line, label="layers", whole=True))
    return told


def advice(found: Terrain, at: str = "") -> str:
    """What the kind of ground means for training, in one sentence."""
    convex = found.convexity is not None and found.convexity.convex is True
    gain = numeral(found.slope_gain, 2)
    match found.kind:
        case "saddle" | "maximum" | "slope" if not found.maximize and at_rest(found):
            return (
                "no method leaves by itself, for the gradient of every example is zero here: "
                + ("perturb the weights at random" if found.escape is None else
                   "move along .escape (for n, v in terrain.escape.by_name.items(): "
                   "model.get_parameter(n).data += terrain.escape.at * v), or perturb the weights at random")
            )  # fmt: skip
        case "slope" if at == "start":
            return "train: descent leads on from here, at any rate below those that are stable"
        case "slope":
            return f"train on: within this reach alone the slope could still win {gain}"
        case "minimum" if convex:
            return "nothing: the problem is convex, so there is nothing lower anywhere"
        case "minimum":
            return "descent ends here; what is lower needs another start, or another model"
        case "maximum" if found.maximize:
            return "nothing: what was to be maximised is at a maximum here"
        case "maximum":
            return (
                "any step leads down: look for the sign of the objective, or whether maximize=True is meant"
            )
        case "saddle":
            return (
                "leave it along the way down: momentum, adam or the noise of smaller batches find it, exact "
                "descent creeps"
            )
        case "plateau":
            return (
                "look for units that are dead or at their flat ends: another initialisation or activation, "
                "or normalisation"
            )


def at_rest(found: Terrain) -> bool:
    """Whether nothing moves a method that follows gradients: neither the slope nor its noise."""
    tiny = 1e-12 * abs(found.sharpness) * found.reach
    noise = 0.0 if found.noise_scale is None else found.noise_scale.trace
    return found.gradient_norm <= tiny and noise <= tiny**2


def _next(found: Terrain, task: str | None, at: str, written: Path | None) -> list[Row]:
    if written is not None or task is None:
        return console.opened(written)
    if at == "start":
        return [Row(f"downslope fit {task}", label="next", whole=True)]
    if found.kind in ("saddle", "plateau"):
        return [Row(f"downslope diagnose {task}", label="next", whole=True)]
    return [Row(f"downslope report {task}", label="next", whole=True)]


# -- the page --------------------------------------------------------------------------------------------


def section(found: Terrain, *, key: str = "terrain") -> Section:
    """The terrain as a section: kind and reason, spectrum, layers and way down, the numbers.

    Args:
        found: What `survey` gave.
        key: Anchor, unique on the page.
    """
    drawn = Figure(id=f"{key}-spectrum", title="Curvature", choices=_choices(found), height=340)
    cells = [(text(label), text(line)) for label, line in found.labelled()]
    cells += [("note", text(each)) for each in found.notes]
    body = f'<div class="card">{drawn.html()}</div><div class="card">{table(("what", "found"), cells)}</div>'
    lead = f"{found.kind.capitalize()}: {found.why}. To do: {advice(found)}."
    return Section(id=key, title="The ground it stands on", body=body, lead=lead, rank=36, short="Terrain")


def plot(found: Terrain) -> Any:
    """The terrain as a `plotly.graph_objects.Figure`: its views below one another."""
    from plotly.graph_objects import Figure as Drawing
    from plotly.subplots import make_subplots

    views = _choices(found)
    drawn: Drawing = make_subplots(
        rows=len(views),
        cols=1,
        subplot_titles=[each.name for each in views],
        vertical_spacing=0.36 / max(len(views), 2),
    )
    for row, view in enumerate(views, start=1):
        for trace in view.traces:
            drawn.add_trace(_painted(trace), row=row, col=1)
        for axis in ("xaxis", "yaxis"):
            settings = {k: v for k, v in _painted(view.layout.get(axis, {})).items() if k != "standoff"}
            drawn.update_layout({f"{axis}{row if row > 1 else ''}": settings})
    drawn.update_layout(
        title=f"{found.kind.capitalize()}: loss {numeral(found.loss, 4)}", showlegend=False,
        height=110 + 270 * len(views), template="plotly_white",
    )  # fmt: skip
    return drawn


def _painted(value: Any) -> Any:
    """A description with the page's colours as they are on white."""
    if isinstance(value, str):
        return _COLOURS.get(value, value)
    if isinstance(value, list):
        return [_painted(each) for each in value]  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, dict):
        return {k: _painted(v) for k, v in value.items()}  # pyright: ignore[reportUnknownVariableType]
    return finite(value)


def _choices(found: Terrain) -> list[Choice]:
    views = [_spectrum(found)]
    if found.density is not None and len(found.density.grid):
        views.append(_density(found, found.density))
    if len(found.layers) > 1:
        views.append(_bars(found))
    if found.escape is not None:
        views.append(_way(found.escape))
    return views


def _spectrum(found: Terrain) -> Choice:
    """Every eigenvalue with its error, largest first."""
    values: list[float] = found.eigenvalues.tolist()
    errors: list[float] = found.residuals.tolist()
    last = len(values) - 1
    ranks = [str(i + 1) if found.complete or i < last else "smallest" for i in range(len(values))]
    signs = [
        "@accent" if v > e else "@bad" if v < -e else "@muted" for v, e in zip(values, errors, strict=True)
    ]
    line: Trace = {
        "type": "scatter", "mode": "markers", "name": "eigenvalue", "x": ranks, "y": values,
        "error_y": {"type": "data", "array": errors, "color": "@muted", "thickness": 1},
        "marker": {"color": signs, "size": 8 if last < 40 else 5}, "hovertemplate": "number %{x}: %{y:.4g}",
    }  # fmt: skip
    layout = {
        "xaxis": {"title": {"text": "eigenvalue, largest first"}, "type": "category", "nticks": 16},
        "yaxis": {"title": {"text": "curvature"}, "zeroline": True},
    }
    least = "" if found.complete else " of both ends"
    caption = (
        f"{len(values)} eigenvalues{least}, from {numeral(values[0])} to {numeral(values[-1])}; bars are "
        "residuals with rounding. Blue bends up, red down, grey is zero within its error."
    )
    return Choice(name="spectrum", traces=[line], layout=layout, caption=caption)


def _density(found: Terrain, made: Density) -> Choice:
    """How the eigenvalues are distributed, on a logarithmic axis."""
    grid, values, error = (np.asarray(each, dtype=float) for each in (made.grid, made.values, made.error))
    lower = np.clip(values - error, 1e-12, None)
    edge: Trace = {"type": "scatter", "mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "x": grid}
    band: Trace = edge | {"y": lower, "fill": "tonexty", "fillcolor": "rgba(128,128,128,0.18)"}
    curve: Trace = {
        "type": "scatter", "mode": "lines", "name": "density", "x": grid, "y": np.clip(values, 1e-12, None),
        "line": {"color": "@accent", "width": 2}, "hovertemplate": "%{x:.3g}: %{y:.3g}",
    }  # fmt: skip
    peak = math.log10(max(float(values.max()), 1e-6))
    layout = {
        "xaxis": {"title": {"text": "curvature"}},
        "yaxis": {
            "title": {"text": "density of eigenvalues"},
            "type": "log",
            "range": [peak - 6, peak + 0.3],
        },
    }
    caption = f"Density of all {found.size} eigenvalues, blurred to a width of {numeral(made.width)}."
    return Choice(
        name="density", traces=[edge | {"y": values + error}, band, curve], layout=layout, caption=caption
    )


def _bars(found: Terrain) -> Choice:
    """The sharpness of every layer's block."""
    shown = [each for each in found.layers if math.isfinite(each.sharpness)]
    bar: Trace = {
        "type": "bar", "name": "sharpness", "x": [each.name for each in shown],
        "y": [each.sharpness for each in shown], "marker": {"color": "@accent"},
        "error_y": {"type": "data", "array": [each.sharpness_error for each in shown], "color": "@muted"},
        "customdata": [each.trace for each in shown],
        "hovertemplate": "%{x}: %{y:.3g}, trace %{customdata:.3g}",
    }  # fmt: skip
    layout = {
        "xaxis": {"title": {"text": "layer"}, "type": "category"},
        "yaxis": {"title": {"text": "largest curvature"}},
    }
    words = ", ".join(
        f"{each.name} {numeral(each.sharpness)} (trace {numeral(each.trace)})" for each in shown
    )
    caption = f"Largest curvature of each layer by itself: {words}."
    return Choice(name="layers", traces=[bar], layout=layout, caption=caption)


def _way(way: Escape) -> Choice:
    """The loss along the lowest curvature, with the parabola that the curvature promises."""
    lengths, here = list(way.profile.lengths), way.profile.here
    bend = 0.0 if way.sampled else way.curvature
    parabola = [here + 0.5 * bend * each**2 for each in lengths]
    measured: Trace = {
        "type": "scatter", "mode": "lines+markers", "name": "measured", "x": lengths,
        "y": list(way.profile.losses), "line": {"color": "@accent", "width": 2}, "marker": {"size": 6},
        "hovertemplate": "%{x:.3g}: %{y:.4g}",
    }  # fmt: skip
    far = 4 * way.at if way.at else lengths[-1]
    near = [y for x, y in zip(lengths, way.profile.losses, strict=True) if abs(x) <= far and math.isfinite(y)]
    low, high = min(near), max(near)
    if way.fall:
        low, high = max(low, here - 2 * way.fall), min(high, here + 2 * way.fall)
    span = max(high - low, 1e-12)
    kept = [each if low - span <= each <= high + span else math.nan for each in parabola]
    model: Trace = {
        "type": "scatter", "mode": "lines", "name": "parabola", "x": lengths, "y": kept,
        "line": {"color": "@muted", "width": 1.5, "dash": "dash"}, "hoverinfo": "skip",
    }  # fmt: skip
    layout = {
        "xaxis": {"title": {"text": "length of the move"}, "range": [-far, far]},
        "yaxis": {"title": {"text": "loss", "standoff": 8}, "range": [low - 0.1 * span, high + 0.1 * span]},
    }
    along = "a direction that samples found" if way.sampled else f"curvature {numeral(way.curvature)}"
    caption = (
        f"The loss along {along}, both ways, measured; dashed what the curvature "
        f"alone foretells. At best it changes by {numeral(way.fall)} after {numeral(way.at)}."
    )
    return Choice(name="way down", traces=[measured, model], layout=layout, caption=caption)
