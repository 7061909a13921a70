"""Figures as plain plotly descriptions; the page paints them in its own colours.

A colour is written as "@accent" and becomes the page's CSS variable, so that a figure follows the theme.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from downslope.reporting.markup import data, text

Trace = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One view of a figure, chosen by a button above it.

    Attributes:
        name: Word on the button.
        traces: Plotly traces.
        layout: What differs from the page's own layout.
        caption: What the picture shows, in words and numbers, for those who cannot see it.
    """

    name: str
    traces: Sequence[Trace]
    layout: Mapping[str, Any] = field(default_factory=dict[str, Any])
    caption: str = ""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A figure with one or several views.

    Attributes:
        id: Unique on the page.
        title: Heading above it.
        choices: Its views, the first shown at first.
        height: Pixels.
        frames: Words for each frame of a figure that moves ("step 3"); empty for one that stands still. Of
            its traces those with the meta "path" are drawn up to the frame, as many points as its entry in
            "stops" says, and those with "heads", whose x and y hold a list for each frame, at it.
    """

    id: str
    title: str
    choices: Sequence[Choice]
    height: int = 320
    frames: Sequence[str] = ()

    def html(self) -> str:
        """The figure as HTML; drawn when the page is opened."""
        described = {
            "height": self.height,
            "frames": list(self.frames),
            "choices": [
                {
                    "data": finite(list(each.traces)),
                    "layout": finite(dict(each.layout)),
                    "caption": each.caption,
                    "label_text": f"{self.title}: {each.caption}",
                }
                for each in self.choices
            ],
        }
        first = self.choices[0]
        return (
            f'<figure><div class="head"><h3>{text(self.title)}</h3>{self._switch()}</div>'
            f'<div class="plot" role="img" style="min-height:{self.height}px" data-figure="{self.id}-data" '
            f'data-label="{text(first.caption)}" aria-label="{text(first.caption)}"></div>'
            f"{self._player()}"
            f'<script type="application/json" id="{self.id}-data">{data(described)}</script>'
            f"<figcaption>{text(first.caption)}</figcaption></figure>"
        )

    def _player(self) -> str:
        """Play and stop, and a slider; nothing moves before it is asked to."""
        if not self.frames:
            return ""
        last = len(self.frames) - 1
        return (
            '<div class="player"><button type="button" class="play" aria-pressed="false">Play</button>'
            f'<input type="range" min="0" max="{last}" value="{last}" aria-label="Step">'
            f"<output>{text(self.frames[-1])}</output></div>"
        )

    def _switch(self) -> str:
        if len(self.choices) < 2:
            return ""
        buttons = "".join(
            f'<button type="button" aria-pressed="{str(i == 0).lower()}">{text(each.name)}</button>'
            for i, each in enumerate(self.choices)
        )
        return f'<div class="switch" role="group" aria-label="What is drawn">{buttons}</div>'


def finite(value: Any) -> Any:
    """`value` for JSON, to 6 digits: a number that is not finite becomes None, which plotly leaves out."""
    if isinstance(value, bool) or value is None or isinstance(value, (int, str)):
        return value
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}  # pyright: ignore[reportUnknownArgumentType]
    if hasattr(value, "tolist"):
        return finite(value.tolist())
    if isinstance(value, Iterable):
        return [finite(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
    return str(value)


def by_step(last: int) -> dict[str, Any]:
    """An axis of steps up to `last`; whole steps only where there are few."""
    axis: dict[str, Any] = {"title": {"text": "step", "standoff": 6}, "rangemode": "tozero"}
    return axis | ({"dtick": 1} if last <= 10 else {})


def vertical(
    step: float, label: str, colour: str, row: int = 0, *, left: bool = False
) -> tuple[Trace, Trace]:
    """A vertical mark at `step` with its label, to its right or `left`: a shape and an annotation."""
    shape: Trace = {
        "type": "line", "x0": step, "x1": step, "yref": "paper", "y0": 0, "y1": 1,
        "line": {"color": colour, "width": 1.2, "dash": "dot"},
    }  # fmt: skip
    note: Trace = {
        "x": step, "y": 1 - 0.085 * row, "yref": "paper", "text": text(label), "showarrow": False,
        "xanchor": "right" if left else "left", "yanchor": "top", "xshift": -4 if left else 4,
        "font": {"color": colour, "size": 12}, "bgcolor": "@card", "borderpad": 1,
    }  # fmt: skip
    return shape, note


def log_axis(values: npt.ArrayLike) -> dict[str, Any]:
    """A logarithmic axis with plain numbers: 1, 2, 5 over up to two decades, then powers of ten alone.

    Within one decade, where 1, 2 and 5 may all lie outside, plotly's own, which are evenly apart there.
    """
    numbers = np.asarray(values, dtype=float)
    numbers = numbers[np.isfinite(numbers) & (numbers > 0)]
    decades = float(np.log10(numbers.max() / numbers.min())) if len(numbers) else 0.0
    ticks = {"dtick": 1 if decades > 2 else "D2"} if 1 <= decades <= 6 else {}
    return {"type": "log", "tickformat": "~g", **ticks}
