"""Slices and ways by themselves: a figure of plotly for a notebook, and files of every kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from downslope.core.errors import InputError
from downslope.core.names import load
from downslope.reporting.figure import finite
from downslope.reporting.landscape import figure
from downslope.terrain.modes.connect import Connection
from downslope.terrain.paths.paths import Paths
from downslope.terrain.slices.slice import Slice


def plotly_figure(found: Slice | Paths | Connection, kind: str = "contour") -> Any:
    """A figure of plotly, painted for a light page.

    Raises:
        InputError: another kind.
    """
    views = {each.name: each for each in figure(found).choices}
    wanted = {"contour": "contours", "values": "by evaluations"}.get(kind, kind)
    chosen = views.get(wanted) or (next(iter(views.values())) if kind == "contour" else None)
    if chosen is None:
        raise InputError(f"kind={kind!r}: this picture has {', '.join(views)}")
    graph: Any = load("plotly.graph_objects:Figure")
    layout = {
        "template": "plotly_white",
        "height": 560,
        **chosen.layout,
        "title": {"text": figure(found).title},
    }
    return graph(data=painted(finite(list(chosen.traces))), layout=painted(finite(layout)))


PAINT = {
    "@accent": "#2456c9", "@muted": "#59636e", "@grid": "#e9e9e5", "@line": "#dedfda", "@bad": "#b3203c",
    "@ink": "#1b1f24", "@card": "#ffffff", "@s1": "#2563d4", "@s2": "#a95100", "@s3": "#e94c94",
    "@s4": "#11331e", "@s5": "#2f98ea", "@s6": "#5e0099", "@s7": "#b68e0e", "@s8": "#29555f",
}  # fmt: skip
"""The page's own colours in its light theme, where there is no page."""


def painted(value: Any) -> Any:
    """`value` with the colours of a light page in the place of its words for them."""
    if isinstance(value, dict):
        return {key: painted(item) for key, item in value.items()}
    if isinstance(value, list):
        return [painted(item) for item in value]
    return PAINT.get(value, value) if isinstance(value, str) else value


def save(found: Slice | Paths | Connection, path: str | Path, kind: str = "contour") -> Path:
    """Write a page, a still or the numbers, by the ending of `path`.

    Raises:
        InputError: another ending, or a place that cannot be written.
    """
    target = Path(path)
    ending = target.suffix.lower()
    if ending in (".html", ".htm"):
        return load("downslope.reporting.report:report")(found).save(target)
    if ending in (".png", ".svg", ".pdf"):
        return load("downslope.reporting.stills:save")(found, target, kind)
    if ending == ".json":
        return load("downslope.reporting.stills:write")(target, found.to_dict())
    raise InputError(f"{target}: must end in .html, .png, .svg, .pdf or .json")
