"""Slices and ways over them: contours, surfaces and lines, for the page and for a notebook."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from downslope.core.numerals import place
from downslope.reporting.figure import Choice, Figure, Trace, log_axis
from downslope.reporting.heat import SCALE, Heat, heat
from downslope.reporting.hues import COLOURS, DASHES, EDGE, POINTS, SYMBOLS
from downslope.reporting.markup import Section, table, text
from downslope.reporting.numerals import numeral
from downslope.terrain.modes.connect import Connection
from downslope.terrain.paths.paths import Paths
from downslope.terrain.slices.slice import Mark, Slice, Trail

DRAWN = 500
"""Points of a way that are drawn at most."""

PIXEL = 1 / 1200
"""Of the width of a picture: points nearer than that to the last one drawn are left out."""

CELLS = 101
"""Points of each axis that the ground of a function is drawn with."""


# -- sections of the page ---------------------------------------------------------------------------------


def slice_section(found: Slice, *, key: str = "slice") -> Section:
    """A slice as a section: what it is, the picture, what is to be known."""
    title = found.title if found.origin is None else f"The {found.quantity} around {found.title}"
    pictures = f'<div class="card">{figure(found, key).html()}</div>'
    return Section(
        id=key, title=title, lead=_lead(found), body=pictures + _notes(found.notes),
        rank=58, short="Landscape",
    )  # fmt: skip


def paths_section(found: Paths, *, key: str = "paths") -> Section:
    """Ways over a function: the ground with them, the value by evaluations, the table."""
    function = found.function
    drawn = f'<div class="card">{figure(found, key).html()}</div>'
    head = (
        "optimizer",
        "learning rate",
        "ended at",
        "value",
        "where that is",
        "distance",
        "steps",
        "evaluations",
    )
    rows = [
        (
            text(way.optimizer),
            numeral(float(way.settings["lr"])) if "lr" in way.settings else "",
            text(place(way.at[-1].tolist())), numeral(float(way.values[-1])), text(way.ended),
            "" if math.isnan(way.distance) else numeral(way.distance), str(way.steps),
            str(way.evaluations[-1]),
        )
        for way in found.ways
    ]  # fmt: skip
    listed = f'<div class="card">{table(head, rows, numeric=(1, 3, 5, 6, 7))}</div>'
    lead = f"{function.formula}, from {place(found.start)}: {function.shows}." if function.shows else ""
    return Section(
        id=key, title=f"Paths over {function.spelt}", lead=lead, body=drawn + listed + _notes(found.notes),
        rank=58, short="Paths",
    )  # fmt: skip


def connection_section(found: Connection, *, key: str = "connection") -> Section:
    """Two models and the ways between them."""
    drawn = f'<div class="card">{figure(found, key).html()}</div>'
    return Section(
        id=key, title="From one minimum to the other", lead=found.told, body=drawn + _notes(found.notes),
        rank=58, short="Connection",
    )  # fmt: skip


def _lead(found: Slice) -> str:
    size = " × ".join(str(len(axis.coordinates)) for axis in found.axes)
    low = found.lowest
    said = "" if low is None else f" {low.name.capitalize()} is {numeral(low.value)} at {place(low.at)}."
    bad = f" At {found.nonfinite} points it is not finite." if found.nonfinite else ""
    return f"{found.quantity.capitalize()} at {size} points.{said}{bad}"


def _notes(notes: Sequence[str]) -> str:
    said = "".join(f'<p class="note muted">{text(_begun(each))}.</p>' for each in notes)
    return f'<div class="card">{said}</div>' if said else ""


def _begun(note: str) -> str:
    """With a large letter, but for a note that begins with the name of what it is of."""
    return note if note.partition(" ")[0].endswith(":") else note[:1].upper() + note[1:]


# -- figures ----------------------------------------------------------------------------------------------


def figure(found: Slice | Paths | Connection, key: str = "slice") -> Figure:
    """The figure with its views."""
    if isinstance(found, Connection):
        return Figure(id=key, title="Loss on the way", choices=[_between(found)], height=400)
    if isinstance(found, Paths):
        views = [] if found.surface is None else _views(_coarse(found.surface))
        return Figure(
            id=key, title=found.function.formula, choices=[*views, _by_evaluations(found)], height=560
        )
    flat = len(found.axes) == 1
    return Figure(
        id=key, title=found.quantity.capitalize(), choices=_views(found), height=400 if flat else 560
    )


def _coarse(found: Slice) -> Slice:
    """Every second point or fewer of a ground that is finer than its picture, the ends among them."""
    keep = [
        np.unique(np.linspace(0, len(axis.coordinates) - 1, CELLS).round().astype(int))
        if len(found.axes) == 2 and len(axis.coordinates) > CELLS
        else np.arange(len(axis.coordinates))
        for axis in found.axes
    ]
    axes = tuple(a._replace(coordinates=a.coordinates[k]) for a, k in zip(found.axes, keep, strict=True))
    at = np.ix_(*keep)
    return replace(found, axes=axes, values=found.values[at], evaluated=found.evaluated[at])


def _views(found: Slice) -> list[Choice]:
    if len(found.axes) == 1:
        return [_line(found)]
    return [_contour(found), _surface(found)]


def _contour(found: Slice) -> Choice:
    shown, (x, y) = heat(found.values, found.log), found.axes
    size = (shown.high - shown.low) / 22 or 1.0
    ground: Trace = {
        "type": "contour", "x": x.coordinates, "y": y.coordinates, "z": shown.rounded.T, "colorscale": SCALE,
        "zmin": shown.low, "zmax": shown.high, "showlegend": False,
        "contours": {"start": shown.low, "end": shown.high, "size": size},
        "line": {"width": 0.6, "color": "rgba(255,255,255,.4)"}, "colorbar": _bar(found, shown),
        "text": [[numeral(float(v), 4) for v in row] for row in found.values.T],
        "hovertemplate": f"%{{x:.4g}}, %{{y:.4g}}<br>{found.quantity} %{{text}}<extra></extra>",
    }  # fmt: skip
    traces = [ground, *_gaps(found), *_ways(found), *marked(found.marks)]
    layout = {
        "xaxis": {"title": {"text": x.name}, "range": _ends(x.coordinates)},
        "yaxis": {"title": {"text": y.name, "standoff": 6}, "range": _ends(y.coordinates)},
        "hovermode": "closest",
    }  # fmt: skip
    return Choice(name="contours", traces=traces, layout=layout, caption=words(found))


def _surface(found: Slice) -> Choice:
    shown, (x, y) = heat(found.values, found.log), found.axes
    clipped = np.clip(shown.z, shown.low, shown.high)
    ground: Trace = {
        "type": "surface", "x": x.coordinates, "y": y.coordinates, "z": clipped.T, "colorscale": SCALE,
        "cmin": shown.low, "cmax": shown.high, "colorbar": _bar(found, shown),
        "showlegend": False,
        "contours": {"z": {
            "show": True, "width": 1, "color": "rgba(255,255,255,.35)", "start": shown.low, "end": shown.high,
            "size": (shown.high - shown.low) / 22 or 1,
        }},
        "text": [[numeral(float(v), 4) for v in row] for row in found.values.T],
        "hovertemplate": f"%{{x:.4g}}, %{{y:.4g}}<br>{found.quantity} %{{text}}<extra></extra>",
    }  # fmt: skip
    lift = 0.012 * (shown.high - shown.low)
    traces = [ground]
    for index, trail in enumerate(found.trails):
        at, values = _thinned(found, trail)
        heights = shown.of(values) if np.isfinite(values).any() else _under(found, shown, at)
        inside = np.all([(at[:, i] >= a.coordinates[0]) & (at[:, i] <= a.coordinates[-1])
                         for i, a in enumerate(found.axes)], axis=0)  # fmt: skip
        height = np.where(inside, np.clip(heights, shown.low, shown.high) + lift, np.nan)
        traces.append({
            "type": "scatter3d", "mode": "lines+markers", "name": trail.name, "x": at[:, 0], "y": at[:, 1],
            "z": height, "line": {"color": COLOURS[index % len(COLOURS)], "width": 5},
            "marker": {"color": COLOURS[index % len(COLOURS)], "size": 2.2}, "hoverinfo": "name",
        })  # fmt: skip
    axis = {
        "gridcolor": "@grid",
        "zerolinecolor": "@line",
        "color": "@muted",
        "backgroundcolor": "rgba(0,0,0,0)",
    }
    ticks = {"tickvals": shown.ticks, "ticktext": shown.texts} if shown.log else {}
    layout = {
        "scene": {
            "xaxis": {**axis, "title": {"text": _short(x.name)}},
            "yaxis": {**axis, "title": {"text": _short(y.name)}},
            "zaxis": {**axis, "title": {"text": found.quantity}, **ticks},
            "camera": {"eye": {"x": -1.25, "y": -1.45, "z": 0.95}},
            "aspectratio": {"x": 1, "y": 1, "z": 0.62},
        },
        "margin": {"l": 0, "r": 0, "t": 0, "b": 0}, "hovermode": "closest",
    }  # fmt: skip
    return Choice(name="surface", traces=traces, layout=layout, caption=words(found))


def _line(found: Slice) -> Choice:
    x = found.axes[0]
    good = np.where(np.isfinite(found.values), found.values, np.nan)
    traces: list[Trace] = [{
        "type": "scatter", "mode": "lines", "name": found.quantity, "x": x.coordinates, "y": good,
        "line": {"color": "@muted" if found.trails else "@accent", "width": 2.4}, "showlegend": False,
    }]  # fmt: skip
    bad = x.coordinates[found.evaluated & ~np.isfinite(found.values)]
    if len(bad):
        floor = float(np.nanmin(good)) if np.isfinite(good).any() else 0.0
        traces.append(_cross(bad, np.full(len(bad), floor), f"not finite ({len(bad)} points)"))
    for index, trail in enumerate(found.trails):
        at, values = _thinned(found, trail)
        traces.append({
            "type": "scatter", "mode": "lines+markers", "name": trail.name, "x": at[:, 0], "y": values,
            "line": {"color": COLOURS[index % len(COLOURS)], "width": 1.2, "dash": DASHES[index % 8]},
            "marker": {"color": COLOURS[index % len(COLOURS)], "size": 6, "symbol": SYMBOLS[index % 8]},
        })  # fmt: skip
    traces += marked(found.marks)
    scale = log_axis(good) if found.log else {}
    layout = {
        "xaxis": {"title": {"text": x.name}, "range": _ends(x.coordinates)},
        "yaxis": {"title": {"text": found.quantity, "standoff": 8}, **scale}, "hovermode": "closest",
    }  # fmt: skip
    return Choice(name="line", traces=traces, layout=layout, caption=words(found))


def _by_evaluations(found: Paths) -> Choice:
    floor = found.function.lowest[0].value if found.function.lowest else None
    traces: list[Trace] = []
    for index, way in enumerate(found.drawn):
        y = way.values if floor is None else np.maximum(way.values - floor, 1e-16)
        keep = _kept(len(y))
        traces.append({
            "type": "scatter", "mode": "lines", "name": way.label, "x": np.array(way.evaluations)[keep],
            "y": np.where(np.isfinite(y), y, np.nan)[keep],
            "line": {"color": COLOURS[index % len(COLOURS)], "width": 2, "dash": DASHES[index % 8]},
        })  # fmt: skip
    what = "value" if floor is None else "value above the lowest"
    scale = {} if floor is None else {"type": "log", "exponentformat": "power", "nticks": 9}
    layout = {
        "xaxis": {"title": {"text": "evaluations (losses and gradients, products)"}, "rangemode": "tozero"},
        "yaxis": {"title": {"text": what, "standoff": 8}, **scale}, "hovermode": "closest",
    }  # fmt: skip
    ended = "; ".join(f"{way.label}: {way.ended} after {way.evaluations[-1]}" for way in found.ways)
    return Choice(
        name="by evaluations", traces=traces, layout=layout, caption=f"{what.capitalize()}. {ended}."
    )


def _between(found: Connection) -> Choice:
    traces: list[Trace] = []
    for index, way in enumerate(found.ways):
        traces.append({
            "type": "scatter", "mode": "lines", "name": way.name, "x": way.at,
            "y": np.where(np.isfinite(way.losses), way.losses, np.nan),
            "line": {"color": COLOURS[index % len(COLOURS)], "width": 2.4, "dash": DASHES[index % 8]},
            "error_y": {"type": "data", "array": 2 * way.errors, "thickness": 0.8, "width": 2},
        })  # fmt: skip
    layout = {
        "xaxis": {"title": {"text": "share of the way from the first model to the second"}},
        "yaxis": {"title": {"text": "loss, ± 2 standard errors", "standoff": 8}}, "hovermode": "closest",
    }  # fmt: skip
    return Choice(name="loss", traces=traces, layout=layout, caption=found.told)


# -- parts ------------------------------------------------------------------------------------------------


def words(found: Slice) -> str:
    """What the picture shows, for those who cannot see it."""
    axes = " by ".join(axis.name for axis in found.axes)
    missing = int(found.missing.sum())
    return (
        f"{_lead(found)} Over {axes}."
        + (" Colours are on a logarithmic scale." if found.log and len(found.axes) == 2 else "")
        + (f" {missing} points were not evaluated." if missing else "")
        + "".join(f" {trail.name}: {trail.note}." for trail in found.trails if trail.note)
    )


def _bar(found: Slice, shown: Heat) -> dict[str, Any]:
    ticks = {"tickvals": shown.ticks, "ticktext": shown.texts}
    return {"title": {"text": found.quantity, "side": "top"}, "thickness": 12, "outlinewidth": 0, **ticks}


def _gaps(found: Slice) -> list[Trace]:
    """Crosses where the value is not finite, dots where there is none."""
    bad, none = found.evaluated & ~np.isfinite(found.values), found.missing
    traces: list[Trace] = []
    x, y = (axis.coordinates for axis in found.axes)
    if bad.any():
        i, j = np.nonzero(bad)
        traces.append(_cross(x[i], y[j], f"not finite ({len(i)} points)"))
    if none.any():
        i, j = np.nonzero(none)
        traces.append({
            "type": "scatter", "mode": "markers", "name": f"not evaluated ({len(i)} points)", "x": x[i],
            "y": y[j], "marker": {"symbol": "circle", "size": 3, "color": "@muted"}, "hoverinfo": "name",
        })  # fmt: skip
    return traces


def _cross(x: Any, y: Any, name: str) -> Trace:
    return {
        "type": "scatter", "mode": "markers", "name": name, "x": x, "y": y, "hoverinfo": "name",
        "cliponaxis": False,
        "marker": {"symbol": "x-thin", "size": 6, "color": "@bad", "line": {"color": "@bad", "width": 1.4}},
    }  # fmt: skip


def _ways(found: Slice) -> list[Trace]:
    traces: list[Trace] = []
    for index, trail in enumerate(found.trails):
        at, values = _thinned(found, trail)
        colour = COLOURS[index % len(COLOURS)]
        shared = {"legendgroup": trail.name, "x": at[:, 0], "y": at[:, 1]}
        traces.append({
            "type": "scatter", "mode": "lines", **shared, "showlegend": False, "hoverinfo": "skip",
            "line": {"color": "rgba(255,255,255,.75)", "width": 4.4},
        })  # fmt: skip
        traces.append({
            "type": "scatter", "mode": "lines+markers", "name": trail.name, **shared,
            "line": {"color": colour, "width": 2, "dash": DASHES[index % 8]},
            "marker": {"color": colour, "size": [3.5] * (len(at) - 1) + [10],
                       "symbol": ["circle"] * (len(at) - 1) + [SYMBOLS[index % 8]],
                       "line": {"color": "#fff", "width": 0.6}},
            "text": [numeral(float(v), 4) for v in values],
            "hovertemplate": f"{text(trail.name)}<br>%{{x:.4g}}, %{{y:.4g}}<br>%{{text}}<extra></extra>",
        })  # fmt: skip
    return traces


def marked(marks: Sequence[Mark]) -> list[Trace]:
    """Points of note, a trace for each name."""
    groups: dict[tuple[str, str], list[Mark]] = {}
    for mark in marks:
        groups.setdefault((mark.name, mark.kind), []).append(mark)
    traces: list[Trace] = []
    for (name, kind), each in groups.items():
        flat = len(each[0].at) == 1
        hollow = kind == "minimum" and "global" not in name
        symbol = POINTS[kind] + ("-open" if hollow else "")
        traces.append({
            "type": "scatter", "mode": "markers", "name": name, "x": [m.at[0] for m in each],
            "y": [m.value if flat else m.at[1] for m in each],
            "marker": {"symbol": symbol, "size": 13 if kind == "minimum" else 10,
                       "color": "@ink" if flat else "#fff",
                       "line": {"color": "@card" if flat else EDGE, "width": 1.2}},
            "text": [numeral(m.value, 4) for m in each],
            "hovertemplate": f"{text(name)}<br>%{{x:.4g}}, %{{y:.4g}}<br>%{{text}}<extra></extra>",
        })  # fmt: skip
    return traces


def _kept(count: int) -> Any:
    return np.unique(np.round(np.linspace(0, count - 1, min(count, DRAWN))).astype(int))


def _thinned(found: Slice, trail: Trail) -> tuple[Any, Any]:
    """Points and values of a way without those on the pixel of the last one; the end among them."""
    wide = np.array([axis.coordinates[-1] - axis.coordinates[0] for axis in found.axes])
    kept = [0]
    for index in range(1, len(trail.at)):
        away = np.abs((trail.at[index] - trail.at[kept[-1]]) / wide).max()
        if not away < PIXEL:
            kept.append(index)
    kept = [*(each for each in kept if each < len(trail.at) - 1), len(trail.at) - 1]
    keep = np.array(kept)[_kept(len(kept))]
    return trail.at[keep], trail.values[keep]


def _under(found: Slice, shown: Heat, at: Any) -> Any:
    """Heights of the drawn ground below points."""
    from scipy.interpolate import RegularGridInterpolator

    through: Any = RegularGridInterpolator(
        [a.coordinates for a in found.axes], shown.z, bounds_error=False, fill_value=np.nan
    )
    return through(at)


def _ends(coordinates: Any) -> list[float]:
    return [float(coordinates[0]), float(coordinates[-1])]


def _short(name: str) -> str:
    return name.partition(",")[0]
