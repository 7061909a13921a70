"""Stills of slices and ways by matplotlib: PNG, SVG, PDF."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from downslope.core.errors import InputError
from downslope.reporting.heat import SCALE, heat
from downslope.reporting.hues import COLOURS, EDGE, POINT_SIGNS, SIGNS, STROKES
from downslope.terrain.modes.connect import Connection
from downslope.terrain.paths.paths import Paths
from downslope.terrain.slices.slice import Slice, Trail

PAPER = "#fbfbfd"


def save(found: Slice | Paths | Connection, path: Path, kind: str = "contour") -> Path:
    """Draw and write.

    Raises:
        InputError: matplotlib is not there, another kind, or a place that cannot be written.
    """
    figure = draw(found, kind)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=160, bbox_inches="tight", facecolor=PAPER)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}") from None
    return path


def draw(found: Slice | Paths | Connection, kind: str = "contour") -> Any:
    """A figure of matplotlib.

    Raises:
        InputError: matplotlib is not there, or another kind.
    """
    if kind not in ("contour", "surface", "values"):
        raise InputError(f"kind={kind!r}: must be 'contour', 'surface' or 'values'")
    try:
        make: Any = importlib.import_module("matplotlib.figure").Figure
    except ImportError:
        raise InputError(
            "stills are drawn by matplotlib, which is not installed: pip install 'downslope[matplotlib]', or "
            "save as .html"
        ) from None
    ground = found.surface if isinstance(found, Paths) else found
    plane = isinstance(ground, Slice) and len(ground.axes) == 2 and kind != "values"
    figure: Any = make(figsize=(6.6, 5.2) if plane else (6.4, 4.0), facecolor=PAPER)
    if isinstance(found, Paths) and (ground is None or kind == "values"):
        by_evaluations(figure.add_subplot(), found)
    elif isinstance(ground, Connection):
        between(figure.add_subplot(), ground)
    elif isinstance(ground, Slice) and plane and kind == "surface":
        relief(figure.add_subplot(projection="3d"), ground)
    elif isinstance(ground, Slice):
        (contours if plane else line)(figure.add_subplot(), ground)
    return figure


def colours() -> Any:
    """The scale of the page as a colour map."""
    made: Any = importlib.import_module("matplotlib.colors").LinearSegmentedColormap
    return made.from_list("downslope", [(at, colour) for at, colour in SCALE])


def contours(
    axis: Any, found: Slice, *, bar: bool = True, lines: bool = True, title: str | None = None
) -> None:
    """A slice of two directions on an axis: filled contours, hatched where it is not finite."""
    shown, (x, y) = heat(found.values, found.log), found.axes
    levels = np.linspace(shown.low, shown.high, 23)
    z = np.ma.masked_invalid(shown.z.T)
    drawn = axis.contourf(x.coordinates, y.coordinates, z, levels=levels, cmap=colours(), extend="max")
    drawn.set_zorder(0.5)
    if lines:
        edges = axis.contour(
            x.coordinates, y.coordinates, z, levels=levels, colors="white", linewidths=0.35, alpha=0.55,
            linestyles="solid",
        )  # fmt: skip
        edges.set_zorder(0.5)
    axis.set_rasterization_zorder(0.7)  # thousands of corners, which no reader tells apart from pixels
    _hatched(axis, found)
    for index, trail in enumerate(found.trails):
        _way(axis, trail, index)
    _placed(axis, found)
    if bar:
        scale = axis.figure.colorbar(drawn, ax=axis, ticks=shown.ticks, pad=0.02, fraction=0.05)
        scale.ax.set_yticklabels(shown.texts, fontsize=8)
        scale.set_label(found.quantity, fontsize=9)
        scale.outline.set_visible(False)
    axis.set(xlabel=x.name, ylabel=y.name, xlim=_ends(x.coordinates), ylim=_ends(y.coordinates))
    _dressed(axis, found.title if title is None else title)


def _hatched(axis: Any, found: Slice) -> None:
    x, y = (each.coordinates for each in found.axes)
    where = ((found.evaluated & ~np.isfinite(found.values), "not finite", "xxxx", "#b3123f"),
             (found.missing, "not evaluated", "....", "#8a8f98"))  # fmt: skip
    for mask, name, hatch, colour in where:
        if not mask.any():
            continue
        drawn = axis.contourf(
            x, y, mask.T.astype(float), levels=[0.5, 1.5], colors="none", hatches=[hatch], zorder=2
        )
        drawn.set_edgecolor(colour)
        drawn.set_linewidth(0.0)
        shown = {"hatch": hatch, "facecolor": "none", "edgecolor": colour, "linewidth": 0.0}
        axis.fill_between([], [], [], label=f"{name} ({int(mask.sum())} points)", **shown)


def _way(axis: Any, trail: Trail, index: int) -> None:
    colour, stroke = COLOURS[index % len(COLOURS)], STROKES[index % 8]
    at = trail.at[np.isfinite(trail.at).all(axis=1)]
    axis.plot(*at.T, color="white", lw=3.2, alpha=0.8, solid_capstyle="round", zorder=3)
    every = max(1, -(-len(at) // 20))
    axis.plot(
        *at.T, "o", ls=stroke, ms=2.0, lw=1.4, color=colour, label=trail.name, zorder=4, markevery=every
    )
    axis.plot(*at[-1], SIGNS[index % 8], ms=7, color=colour, mec="white", mew=1.2, zorder=5)


def _placed(axis: Any, found: Slice) -> None:
    seen: set[str] = set()
    for mark in found.marks:
        label = None if mark.name in seen else mark.name
        seen.add(mark.name)
        size = 13 if mark.kind == "minimum" else 8
        flat = len(mark.at) == 1
        hollow = mark.kind == "minimum" and "global" not in mark.name
        fill = "none" if hollow else EDGE if flat and mark.kind == "minimum" else "white"
        at = (mark.at[0], mark.value) if flat else mark.at
        axis.plot(
            *at,
            POINT_SIGNS[mark.kind],
            ms=size,
            mfc=fill,
            mec=EDGE,
            mew=0.9,
            label=label,
            zorder=6,
            ls="none",
        )


def relief(axis: Any, found: Slice) -> None:
    """A slice of two directions as a surface."""
    shown, (x, y) = heat(found.values, found.log), found.axes
    across, up = np.meshgrid(x.coordinates, y.coordinates)
    z = np.clip(shown.z.T, shown.low, shown.high)
    axis.plot_surface(
        across, up, z, cmap=colours(), vmin=shown.low, vmax=shown.high, rstride=1, cstride=1, lw=0,
        antialiased=True, rasterized=True,
    )  # fmt: skip
    axis.set_zticks(shown.ticks, shown.texts)
    axis.set(xlabel=x.name.partition(",")[0], ylabel=y.name.partition(",")[0], zlabel=found.quantity)
    axis.set_title(found.title, fontsize=10, fontweight="bold", loc="left")
    axis.set_facecolor(PAPER)


def line(axis: Any, found: Slice, *, title: str | None = None) -> None:
    """A slice of one direction, or a function of one coordinate."""
    x = found.axes[0].coordinates
    good = np.where(np.isfinite(found.values), found.values, np.nan)
    axis.plot(x, good, color="#8a8f98" if found.trails else "#0072b2", lw=1.8)
    if (bad := found.evaluated & ~np.isfinite(found.values)).any():
        half = (x[1] - x[0]) / 2
        for at in x[bad]:
            axis.axvspan(at - half, at + half, color="none", hatch="xxxx", ec="#b3123f", lw=0)
        axis.plot([], [], "s", color="none", label=f"hatched: not finite ({int(bad.sum())} points)")
    for index, trail in enumerate(found.trails):
        axis.plot(
            trail.at[:, 0],
            trail.values,
            "o-",
            ms=3,
            lw=0.9,
            color=COLOURS[index % len(COLOURS)],
            label=trail.name,
        )
    _placed(axis, found)
    axis.set(xlabel=found.axes[0].name, ylabel=found.quantity, xlim=_ends(x))
    if found.log:
        axis.set_yscale("log")
    _dressed(axis, found.title if title is None else title)


def by_evaluations(axis: Any, found: Paths) -> None:
    """The value by evaluations, one line for each optimizer."""
    floor = found.function.lowest[0].value if found.function.lowest else None
    for index, way in enumerate(found.drawn):
        y = way.values if floor is None else np.maximum(way.values - floor, 1e-16)
        axis.plot(way.evaluations, y, color=COLOURS[index % len(COLOURS)], lw=1.6, label=way.label)
    axis.set(xlabel="evaluations", ylabel="value" if floor is None else "value above the lowest")
    if floor is not None:
        axis.set_yscale("log")
    _dressed(axis, found.function.spelt)


def between(axis: Any, found: Connection) -> None:
    """Losses on the ways between two models, with two standard errors."""
    for index, way in enumerate(found.ways):
        colour = COLOURS[index % len(COLOURS)]
        axis.plot(way.at, way.losses, color=colour, lw=1.8, label=way.name)
        axis.fill_between(
            way.at, way.losses - 2 * way.errors, way.losses + 2 * way.errors, color=colour, alpha=0.18, lw=0
        )
    axis.set(xlabel="share of the way from the first model to the second", ylabel="loss, ± 2 standard errors")
    _dressed(axis, "From one minimum to the other")


def _dressed(axis: Any, title: str) -> None:
    axis.set_facecolor(PAPER)
    axis.set_title(title, fontsize=10, fontweight="bold", loc="left")
    axis.tick_params(labelsize=8)
    handles, labels = axis.get_legend_handles_labels()
    if labels:
        axis.legend(
            handles,
            labels,
            fontsize=7.5,
            loc="best",
            frameon=True,
            framealpha=0.88,
            facecolor="white",
            edgecolor="none",
        )


def _ends(coordinates: Any) -> tuple[float, float]:
    return float(coordinates[0]), float(coordinates[-1])


def write(path: Path, content: Any) -> Path:
    """Plain values as JSON.

    Raises:
        InputError: a place that cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, ensure_ascii=False, allow_nan=False), encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}") from None
    return path
