"""A scene as a figure that can be played, stopped, and moved through step by step."""

from __future__ import annotations

from typing import Any

import numpy as np

from downslope.reporting.figure import Choice, Figure, Trace
from downslope.reporting.hues import COLOURS, DASHES, SYMBOLS
from downslope.reporting.landscape import marked
from downslope.reporting.markup import Section
from downslope.reporting.scene import Floats, Mover, Scene


def section(scene: Scene, key: str = "paths") -> Section:
    """The scene's part of a page.

    Args:
        scene: What moves.
        key: Anchor, unique on the page.
    """
    traces = [*_ground(scene)]
    for place, each in enumerate(scene.movers):
        traces += _moving(scene, each, place)
    choice = Choice(name="paths", traces=traces, layout=_layout(scene), caption=scene.caption)
    figure = Figure(
        id=key,
        title=scene.title,
        choices=[choice],
        height=470,
        frames=[f"step {each}" for each in scene.steps],
    )
    return Section(
        id=key, title="Step by step", body=f'<div class="card">{figure.html()}</div>', rank=59, short="Steps"
    )


def _ground(scene: Scene) -> list[Trace]:
    if scene.flat:
        line: Trace = {
            "type": "scatter", "mode": "lines", "name": "f", "showlegend": False, "hoverinfo": "skip",
            "x": scene.axes[0], "y": scene.heights,
            "line": {"color": "@muted", "width": 1.6, "simplify": False},
        }  # fmt: skip
        return [line]
    shade = scene.shade()
    map_: Trace = {
        "type": "contour", "x": scene.axes[0], "y": scene.axes[1], "z": shade, "showscale": False,
        "hoverinfo": "skip", "autocontour": False, "contours": _levels(shade),
        "colorscale": [[0.0, "@sunk"], [1.0, "@faint"]], "line": {"width": 0.4, "color": "@muted"},
    }  # fmt: skip
    return [map_, *marked(scene.marks)]


def _levels(shade: Floats) -> dict[str, Any]:
    low, high = float(np.nanmin(shade)), float(np.nanmax(shade))
    size = (high - low) / 16 or 1.0
    return {"start": low, "end": high, "size": size}


def _moving(scene: Scene, mover: Mover, place: int) -> list[Trace]:
    """Tracks, heads, and the curve beside the map; cut to the frame by the page."""
    colour, symbol, dash = COLOURS[place % 8], SYMBOLS[place % 8], DASHES[place % 8]
    x = mover.places[:, :, 0]
    y = mover.heights if scene.flat else mover.places[:, :, 1]
    at = [mover.at(step) for step in scene.steps]
    stops = [each + 1 for each in at]
    traces: list[Trace] = []
    for member in range(x.shape[1] if x.shape[1] <= 3 and not scene.flat else 0):
        track: Trace = {
            "type": "scatter", "mode": "lines", "meta": "path", "x": x[:, member], "y": y[:, member],
            "stops": stops,
            "line": {"color": colour, "width": 1.8, "dash": dash, "simplify": False}, "showlegend": False,
            "hoverinfo": "skip",
        }  # fmt: skip
        traces.append(track)
    heads: Trace = {
        "type": "scatter", "mode": "markers", "meta": "heads", "x": x[at], "y": y[at], "name": mover.label,
        "marker": {
            "symbol": symbol, "size": 11 if x.shape[1] == 1 else 7, "color": colour,
            "line": {"color": "@card", "width": 1},
        },
    }  # fmt: skip
    if mover.told:
        heads["names"] = [f"{mover.label} {each}" for each in mover.told]
        heads["name"] = heads["names"][-1]
    curve: Trace = {
        "type": "scatter", "mode": "lines", "meta": "path", "name": mover.label, "showlegend": False,
        "x": np.arange(len(x)), "y": mover.curve, "stops": stops, "xaxis": "x2", "yaxis": "y2",
        "line": {"color": colour, "width": 2, "dash": dash, "simplify": False}, "hoverinfo": "skip",
    }  # fmt: skip
    return [*traces, heads, curve]


def _layout(scene: Scene) -> dict[str, Any]:
    limits = [[float(each[0]), float(each[-1])] for each in scene.axes]
    if scene.flat:
        low, high = float(np.nanmin(scene.heights)), float(np.nanmax(scene.heights))
        limits.append([low - 0.08 * (high - low), high + 0.12 * (high - low)])
    wide = [0.0, 0.6]
    return {
        "xaxis": {"range": limits[0], "domain": wide, "title": {"text": "x"}, "anchor": "y"},
        "yaxis": {"range": limits[1], "title": {"text": "f(x)" if scene.flat else "y"}, "anchor": "x"},
        "xaxis2": {"range": [0, max(scene.steps[-1], 1)], "domain": [0.7, 1.0], "anchor": "y2",
                   "title": {"text": "step"}},
        "yaxis2": {"range": curve_range(scene), "anchor": "x2", "title": {"text": scene.curve}},
        "hovermode": False,
    }  # fmt: skip


def curve_range(scene: Scene) -> list[float]:
    """Limits of the curves: of shares 0 to 1, of heights those seen on the ground that is shown."""
    if scene.curve != "f":
        return [-0.02, 1.03]
    every = np.concatenate([each.curve for each in scene.movers])
    every = every[np.isfinite(every)]
    low = float(np.nanmin([every.min(initial=np.inf), np.nanmin(scene.heights)]))
    low = max(
        low, float(np.nanmin(scene.heights)) - 0.1 * float(np.ptp(scene.heights[np.isfinite(scene.heights)]))
    )
    start = max(float(each.curve[0]) for each in scene.movers if np.isfinite(each.curve[0]))
    room = 0.06 * ((start - low) or 1.0)
    return [low - room, start + 2 * room]
