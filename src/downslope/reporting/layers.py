"""Layer by layer, step by step: gradient norms, update ratios and what else was probed, as a heat map."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from downslope.core.history import Floats, Probe
from downslope.core.modules import called
from downslope.core.run import Run
from downslope.reporting.figure import Choice, Figure, Trace, by_step
from downslope.reporting.markup import Section
from downslope.reporting.numerals import numeral

Bools = NDArray[np.bool_]


COLUMNS = 160
"""Probed steps that are drawn at most; more are no longer told apart."""

SAID = 12
"""Probed steps up to which each cell of the map holds its number, too."""


class View(NamedTuple):
    """A probed statistic as it is drawn."""

    statistic: str
    name: str
    words: str
    centre: float | None
    """log10 of the value that is usual, for a scale with two ends; None for a scale with one."""


VIEWS = (
    View("grad_norm", "gradient norm", "norm of the gradient of each layer's weights", None),
    View(
        "update_ratio",
        "update / weight",
        "size of one update over the size of the weights; 0.001 is usual",
        -3.0,
    ),
    View("out_std", "output spread", "standard deviation of each layer's output; 1 is usual", 0.0),
    View("weight_norm", "weight norm", "norm of each layer's weights", None),
)

_ONE_END = [[0, "#2a1a4a"], [0.25, "#7a2a72"], [0.5, "#c4476a"], [0.75, "#f08a54"], [1, "#fbe3a0"]]
_TWO_ENDS = [[0, "#1f4e9c"], [0.25, "#7fa6d9"], [0.5, "#f1efe8"], [0.75, "#e08a6a"], [1, "#9c1f33"]]


def section(run: Run, *, key: str = "layers", title: str = "Layer by layer") -> Section | None:
    """The heat map of a run, its statistic chosen by buttons; None where nothing was probed."""
    choices = [
        _choice(run, run.probes[view.statistic], view) for view in VIEWS if view.statistic in run.probes
    ]
    choices = [each for each in choices if each is not None]
    if not choices:
        return None
    deepest = max(len(run.probes[view.statistic].modules) for view in VIEWS if view.statistic in run.probes)
    height = min(max(200, 34 * deepest + 96), 1400)
    figure = Figure(id=f"{key}-map", title="Layers by step", choices=choices, height=height)
    lead = (
        "Input at the top, output at the bottom; each column is a probed step, closer together at the start."
    )
    return Section(
        id=key,
        title=title,
        body=f'<div class="card">{figure.html()}</div>',
        lead=lead,
        rank=40,
        short="Layers",
    )


def _choice(run: Run, probe: Probe, view: View) -> Choice | None:
    if not len(probe.steps) or not probe.modules:
        return None
    probe = thinned(probe)
    names = labelled(run, probe.modules)
    values = probe.values.T
    labels = [str(int(step)) for step in probe.steps]
    logs, words = _logs(values), _words(values)
    scale = _scale(logs, view)
    traces: list[Trace] = [
        {
            "type": "heatmap", "x": labels, "y": names, "z": logs, "customdata": words,
            "hovertemplate": "%{y}, step %{x}: %{customdata}<extra></extra>", "xgap": 1, "ygap": 1,
            "hoverongaps": True, **scale,
        },
        *(_numbers(logs, words, labels, names, scale) if len(labels) <= SAID else []),
        *_signs(values == 0, labels, names, "0", "@ink"),
        *_signs(np.isinf(values), labels, names, "\u00d7", "@bad"),
    ]  # fmt: skip
    layout = {
        "xaxis": {
            "title": {"text": "step", "standoff": 6},
            "type": "category",
            "nticks": 12,
            "showgrid": False,
        },
        "yaxis": {"autorange": "reversed", "type": "category", "showgrid": False, "dtick": 1},
        "hovermode": "closest",
        "showlegend": False,
        "margin": {"l": 30, "r": 8},
    }
    return Choice(name=view.name, traces=traces, layout=layout, caption=_caption(probe, view, names))


def thinned(probe: Probe, columns: int = COLUMNS) -> Probe:
    """The probe at no more than `columns` of its steps, first and last among them."""
    if len(probe.steps) <= columns:
        return probe
    kept = np.unique(np.linspace(0, len(probe.steps) - 1, columns).round().astype(np.int64))
    return Probe(probe.steps[kept], probe.modules, probe.values[kept])


def labelled(run: Run, modules: Sequence[str]) -> list[str]:
    """Names as people are told of them, such as "features.0 (Conv2d 3x16)"."""
    return [called(run.facts, name) for name in modules]


def _logs(values: Floats) -> Floats:
    """log10; a zero, which has none, and what is not finite stay gaps."""
    positive = np.isfinite(values) & (values > 0)
    logs = np.full(values.shape, np.nan)
    logs[positive] = np.log10(values[positive])
    return logs


def _scale(logs: Floats, view: View) -> dict[str, Any]:
    """Colours, their range (a whole decade at least) and a bar beside them that reads as plain numbers."""
    good = logs[np.isfinite(logs)]
    low, high = (float(good.min()), float(good.max())) if len(good) else (-1.0, 1.0)
    if view.centre is not None:
        reach = max(1.0, abs(low - view.centre), abs(high - view.centre))
        low, high = view.centre - reach, view.centre + reach
    elif high < low + 1:
        low, high = (low + high) / 2 - 0.5, (low + high) / 2 + 0.5
    ticks = np.arange(math.ceil(low), math.floor(high) + 1)
    ticks = ticks[:: max(1, -(-len(ticks) // 6))]
    return {
        "colorscale": _ONE_END if view.centre is None else _TWO_ENDS, "zmin": low, "zmax": high,
        "colorbar": {
            "title": {"text": view.name, "side": "right"}, "thickness": 12, "outlinewidth": 0, "len": 1,
            "tickvals": ticks, "ticktext": [numeral(10.0**each) for each in ticks.tolist()],
        },
    }  # fmt: skip


def _words(values: Floats) -> list[list[str]]:
    return [[numeral(float(each)) for each in row] for row in values]


def _numbers(
    logs: Floats, words: list[list[str]], labels: list[str], modules: list[str], scale: dict[str, Any]
) -> list[Trace]:
    """The number in each coloured cell, black or white by which of them stands out more."""
    rows, columns = np.nonzero(np.isfinite(logs))
    span = scale["zmax"] - scale["zmin"]
    shares = (logs[rows, columns] - scale["zmin"]) / span
    return [
        {
            "type": "scatter", "mode": "text", "x": [labels[c] for c in columns],
            "y": [modules[r] for r in rows],
            "text": [words[r][c] for r, c in zip(rows, columns, strict=True)],
            "hoverinfo": "skip", "meta": "numbers",
            "textfont": {"color": [over(scale["colorscale"], each) for each in shares], "size": 11.5},
        }
    ]  # fmt: skip


def over(colours: Sequence[Sequence[Any]], share: float) -> str:
    """Black or white: what is read better over a scale's colour at `share` (WCAG 2.2, at least 4.5 to 1)."""
    places = [float(place) for place, _ in colours]
    levels = [[int(code[i : i + 2], 16) / 255 for i in (1, 3, 5)] for _, code in colours]
    mixed = np.array([np.interp(share, places, [level[i] for level in levels]) for i in range(3)])
    linear = np.where(mixed <= 0.04045, mixed / 12.92, ((mixed + 0.055) / 1.055) ** 2.4)
    luminance = float(linear @ np.array([0.2126, 0.7152, 0.0722]))
    return "#000000" if (luminance + 0.05) ** 2 > 1.05 * 0.05 else "#ffffff"


def _signs(where: Bools, labels: list[str], modules: list[str], sign: str, colour: str) -> list[Trace]:
    """A sign in the cells whose value has no logarithm: 0 for a zero, a cross for what is not finite."""
    rows, columns = np.nonzero(where)
    if not len(rows):
        return []
    return [
        {
            "type": "scatter", "mode": "text", "x": [labels[c] for c in columns],
            "y": [modules[r] for r in rows], "text": [sign] * len(rows), "hoverinfo": "skip",
            "textfont": {"color": colour, "size": 13}, "meta": "sign",
        }
    ]  # fmt: skip


def _caption(probe: Probe, view: View, names: Sequence[str]) -> str:
    finite = [i for i in range(len(probe.steps)) if np.isfinite(probe.values[i]).any()]
    words = f"The {view.words}; colours in powers of ten."
    if not finite:
        return words + " No value is finite."
    row = probe.values[finite[-1]]
    row = np.where(np.isfinite(row), row, np.nan)
    small, large = int(np.nanargmin(row)), int(np.nanargmax(row))
    low, high = (f"{names[i]}: {numeral(float(row[i]))}" for i in (small, large))
    return f"{words} At step {int(probe.steps[finite[-1]])} smallest in {low}; largest in {high}."


# -- activations ------------------------------------------------------------------------------------------

_SYMBOLS = (
    "circle", "square", "diamond", "triangle-up", "x", "triangle-down", "star", "pentagon",
)  # fmt: skip
"""Layers differ in their marks as well as in their colours."""

_FRACTIONS = (
    ("dead_fraction", "dead units", "share of units that are zero for every example of the probed batch"),
    ("zero_fraction", "zero outputs", "share of outputs that are zero; about a half is usual for ReLU"),
    ("saturated_fraction", "saturated", "share of outputs within 1 % of a bound of their activation"),
)


def activations(run: Run, *, key: str = "activations", title: str = "Activations") -> Section | None:
    """Dead, zero and saturated shares of each activation by step; None where none was probed."""
    choices = [
        choice
        for statistic, name, words in _FRACTIONS
        if statistic in run.probes
        and (choice := _fractions(run, run.probes[statistic], name, words)) is not None
    ]
    if not choices:
        return None
    choices.sort(key=lambda each: each.name == "zero outputs")
    figure = Figure(id=f"{key}-lines", title="Shares by step", choices=choices, height=300)
    body = f'<div class="card">{figure.html()}</div>'
    return Section(id=key, title=title, body=body, rank=42, short="Activations")


def _fractions(run: Run, probe: Probe, name: str, words: str) -> Choice | None:
    probe = thinned(probe)
    good = [i for i in range(len(probe.modules)) if np.isfinite(probe.values[:, i]).any()]
    if not len(probe.steps) or not good:
        return None
    ended = {i: probe.values[np.flatnonzero(np.isfinite(probe.values[:, i]))[-1], i] for i in good}
    drawn = sorted(sorted(good, key=lambda i: -ended[i])[:8])
    names = labelled(run, probe.modules)
    traces: list[Trace] = [
        {
            "type": "scatter", "mode": "lines+markers", "name": names[i], "x": probe.steps,
            "y": 100 * probe.values[:, i], "line": {"color": f"@s{rank % 8 + 1}", "width": 2},
            "marker": {"size": 6, "symbol": _SYMBOLS[rank % 8]}, "hovertemplate": "%{y:.1f} %",
        }
        for rank, i in enumerate(drawn)
    ]  # fmt: skip
    layout = {
        "xaxis": by_step(int(probe.steps[-1])),
        "yaxis": {"title": {"text": f"{name}, %", "standoff": 8}, "range": [-2, 102]},
        "showlegend": True,
    }
    worst = max(good, key=lambda i: ended[i])
    left = f" The {len(drawn)} highest of {len(good)} are drawn." if len(good) > len(drawn) else ""
    seen = int(probe.steps[np.isfinite(probe.values[:, worst])][-1])  # of a short script far from its end
    caption = (
        f"The {words}. At step {seen} it is highest in {names[worst]}: {100 * ended[worst]:.0f} %.{left}"
    )
    return Choice(name=name, traces=traces, layout=layout, caption=caption)
