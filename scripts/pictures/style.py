"""How every picture looks: an opaque card, so that it reads the same on a light and on a dark page."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "pictures"
BLUE, ORANGE, GREEN, RED, PURPLE, GREY = "#0072b2", "#d55e00", "#009e73", "#b3123f", "#8f4fa8", "#8a8f98"
"""Okabe and Ito's colours (2008), which most people can tell apart, darkened where they were too light."""

LIMIT = 150_000
"""Bytes a picture may have."""

_RC = {
    "figure.facecolor": "#fbfbfd",
    "axes.facecolor": "#fbfbfd",
    "savefig.facecolor": "#fbfbfd",
    "axes.edgecolor": "#c3c7cf",
    "axes.labelcolor": "#30343b",
    "text.color": "#1c1f24",
    "xtick.color": "#5b616b",
    "ytick.color": "#5b616b",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 9,
    "axes.labelsize": 9.5,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "lines.linewidth": 1.7,
    "grid.color": "#e6e8ec",
    "axes.grid": True,
    "axes.axisbelow": True,
    "font.family": "DejaVu Sans",
    "savefig.dpi": 160,  # of the clouds of points, which are kept as pixels inside the SVG
    "svg.hashsalt": "downslope",  # the same run gives the same file
}


_COORDINATES = re.compile(r' d="M[^"]*"')


def _rounded(found: re.Match[str]) -> str:
    """The coordinates of a path to a hundredth of a point: what is finer only makes the file large."""
    return re.sub(r"(\.\d\d)\d+", r"\1", found[0])


def panels(
    count: int, *, rows: int = 1, height: float = 3.1, width: float = 9.6, **options: Any
) -> tuple[Figure, list[Any]]:
    """A figure with `count` axes side by side, in each of `rows`."""
    mpl.rcParams.update(_RC)
    figure, axes = plt.subplots(rows, count, figsize=(width, height), squeeze=False, **options)
    return figure, list(axes.flat)


def beside(name: str, *parts: Callable[[Any], None], **options: Any) -> Path:
    """Panels side by side, each drawn by one of `parts`, as ``docs/pictures/NAME.svg``."""
    figure, axes = panels(len(parts), **options)
    for part, axis in zip(parts, axes, strict=True):
        part(axis)
    return save(figure, name)


def save(figure: Figure, name: str) -> Path:
    """Write the figure as ``docs/pictures/NAME.svg``.

    Raises:
        ValueError: the file is larger than a page should load.
    """
    path = FOLDER / f"{name}.svg"
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.tight_layout(w_pad=2.2)
    figure.savefig(path, metadata={"Date": None, "Creator": None})
    plt.close(figure)
    drawn = path.read_text(encoding="utf-8")
    path.write_text(_COORDINATES.sub(_rounded, drawn), encoding="utf-8")
    size = path.stat().st_size
    if size > LIMIT:
        raise ValueError(f"{path} has {size} bytes, {LIMIT} are allowed: draw fewer points")
    return path
