"""Starts layer by layer: histograms of activations and gradients, one ridge a layer, several starts alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from downslope.init.measure import BOUNDS, Layer, Measured, Values
from downslope.reporting.figure import Choice, Figure, Trace
from downslope.reporting.markup import Section, table, text
from downslope.reporting.numerals import numeral

BINS = 60
_HEIGHT = 0.92
"""Of the highest ridge, the distance of two layers being 1."""


class View(NamedTuple):
    """One set of numbers of each layer."""

    name: str
    words: str
    attribute: str

    def of(self, layer: Layer) -> Values | None:
        """The numbers of a layer; None where they were not measured."""
        return getattr(layer, self.attribute)


VIEWS = (
    View("activations", "what each layer hands on", "after"),
    View("gradients", "gradient of the objective with respect to each layer's output", "gradient"),
    View("weight gradients", "gradient with respect to each layer's weights", "weight_gradient"),
)


def section(starts: Sequence[Measured], *, key: str = "starts") -> Section:
    """A card for each start: its ridges, chosen by buttons, and its numbers in a table."""
    cards: list[str] = []
    for index, start in enumerate(starts):
        figure = Figure(
            id=f"{key}-{index}",
            title=f"init {start.init}",
            choices=[choice for view in VIEWS if (choice := _choice(start, starts, view)) is not None],
            height=max(220, 46 * len(start.layers) + 90),
        )
        cards.append(f'<div class="card">{figure.html()}{_numbers(start)}</div>')
    lead = (
        "Input at the top, output at the bottom. A start that suits the activation keeps the ridges where "
        "they are from layer to layer; one that is too small or too large makes them drift."
    )
    return Section(id=key, title="At the start", body="".join(cards), lead=lead, rank=38, short="Start")


def top(starts: Sequence[Measured]) -> str:
    """What stands above a page of starts alone, as HTML."""
    first = starts[0]
    said = [f"{len(starts)} starts" if len(starts) > 1 else f"init {first.init}"]
    said += [f"{len(first.layers)} layers", f"{first.examples} examples"]
    lines = "".join(f"<span>{text(each)}</span>" for each in said)
    return f'<div class="top"><h1>Before the first step</h1><div class="sub">{lines}</div></div>'


def _choice(start: Measured, starts: Sequence[Measured], view: View) -> Choice | None:
    bounded = view.attribute == "after" and all(
        layer.activation in BOUNDS for each in starts for layer in each.layers if layer.activation
    )
    found = _held(start, view, bounded=bounded)
    if not found:
        return None
    every = [held for each in starts for _, held in _held(each, view, bounded=bounded)]
    log = not bounded
    span = _span(every, log=log)
    names = [f"{layer.name} ({layer.kind})" for layer, _ in found]
    traces: list[Trace] = []
    for row, (_, held) in enumerate(found):
        traces += _ridge(held, row, names[row], span, log=log)
    return Choice(
        name=view.name,
        traces=traces,
        layout={
            "xaxis": _axis(view, span, log=log),
            "yaxis": {
                "range": [len(found) - 0.6, -1.15], "tickvals": list(range(len(found))), "ticktext": names,
                "showgrid": False, "zeroline": False,
            },
            "hovermode": "closest", "showlegend": False, "margin": {"l": 30, "r": 8},
        },
        caption=_caption(start, view, found),
    )  # fmt: skip


def _held(start: Measured, view: View, *, bounded: bool) -> list[tuple[Layer, Values]]:
    """The layers of which there is something to draw; between bounds only those that have an activation."""
    return [
        (layer, held)
        for layer in start.layers
        if (held := view.of(layer)) is not None and (layer.activation or not bounded)
    ]


def _ridge(held: Values, row: int, name: str, span: tuple[float, float], *, log: bool) -> list[Trace]:
    density, edges = held.histogram(BINS, span, log=log)
    highest = float(density.max()) if len(density) else 0.0
    if not highest:
        return []
    middles = (edges[:-1] + edges[1:]) / 2
    x = np.concatenate([middles[:1], middles, middles[-1:]])
    y = row - _HEIGHT * np.concatenate([[0.0], density / highest, [0.0]])
    return [
        {
            "type": "scatter", "mode": "lines", "x": x, "y": y, "fill": "toself", "opacity": 0.82,
            "line": {"color": "@s1", "width": 1.2}, "fillcolor": "@s1", "hoveron": "fills",
            "name": name, "text": f"{name}: std {numeral(held.std)}", "hoverinfo": "text",
        }
    ]  # fmt: skip


def _span(every: Sequence[Values], *, log: bool) -> tuple[float, float]:
    """From where to where all starts are drawn, so that they can be compared."""
    whole = np.concatenate([each.sample for each in every]) if every else np.zeros(0)
    if not log:
        return (-1.05 if len(whole) and whole.min() < 0 else -0.05, 1.05)
    whole = np.log10(np.abs(whole[whole != 0]))
    if not len(whole):
        return (0.0, 1.0)
    low, high = (float(each) for each in np.quantile(whole, [0.002, 0.9995]))
    return (low - 0.1, max(high + 0.1, low + 1))


def _axis(view: View, span: tuple[float, float], *, log: bool) -> dict[str, Any]:
    axis: dict[str, Any] = {
        "title": {"text": f"size of {view.name}" if log else view.name, "standoff": 6},
        "range": list(span), "zeroline": False,
    }  # fmt: skip
    if log:
        ticks = range(math.ceil(span[0]), math.floor(span[1]) + 1, max(1, round((span[1] - span[0]) / 8)))
        axis |= {"tickvals": list(ticks), "ticktext": [numeral(10.0**each) for each in ticks]}
    return axis


def _caption(start: Measured, view: View, found: Sequence[tuple[Layer, Values]]) -> str:
    first, last = (held.std for _, held in (found[0], found[-1]))
    change = f"spread {numeral(first)} in the first layer, {numeral(last)} in the last"
    lost = sum(1 for _, held in found if held.finite < 1)
    beyond = f"; {lost} layers hold numbers that are not finite" if lost else ""
    return f"init {start.init}, {view.words}: {change}{beyond}."


def _numbers(start: Measured) -> str:
    head = ["layer", "spread", "after activation", "at zero", "saturated", "gradient", "weight gradient"]

    def share(value: float | None) -> str:
        return "-" if value is None else f"{100 * value:.0f} %"

    def spread(held: Values | None) -> str:
        return "-" if held is None else numeral(held.std)

    rows = [
        [
            text(f"{each.name} ({each.kind})"), spread(each.output), spread(each.after),
            share(each.after.zero), share(each.after.saturated),
            spread(each.gradient), spread(each.weight_gradient),
        ]
        for each in start.layers
    ]  # fmt: skip
    return table(head, rows, numeric=range(1, len(head)))
