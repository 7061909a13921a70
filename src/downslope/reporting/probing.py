"""Linear probes on the page: how well each layer's output is read by a linear model."""

from __future__ import annotations

import math
from typing import Any

from downslope.reporting.figure import Choice, Figure, Trace
from downslope.reporting.markup import Section, table, text
from downslope.reporting.numerals import numeral
from downslope.training.layer_probe import LayerProbe, LayerProbes


def section(probes: LayerProbes, index: int = 0) -> Section:
    """The metric of a linear model by layer, beside the network's own, and the table of what it saw.

    Args:
        probes: What was measured.
        index: Which of several on the page, from 0.
    """
    key, title = f"probes{index or ''}", "What each layer tells" + (f", {index + 1}" if index else "")
    head = ["layer", "", "output", "features", f"train {probes.metric}", f"valid {probes.metric}"]
    rows = [_cells(row) for row in probes]
    body = f'<div class="card">{_figure(probes, key).html()}{table(head, rows, numeric=(3, 4, 5))}</div>'
    lead = (
        "A linear model is fitted to the output of every layer and judged on validation data: where it gets "
        "better, the layers before have made the answer plainer."
    )
    return Section(id=key, title=title, body=body, lead=lead, rank=45, short="Probes")


def _figure(probes: LayerProbes, key: str) -> Figure:
    # A category axis would draw layers of one name as one.
    places = list(range(len(probes)))
    traces: list[Trace] = [
        _trace(probes, "training", [row.train for row in probes], "@train"),
        _trace(probes, "validation", [row.valid for row in probes], "@valid")
        | {
            "error_y": {"type": "data", "array": [row.stderr for row in probes], "thickness": 1.2, "width": 3}
        },
    ]
    layout: dict[str, Any] = {
        "xaxis": {"tickvals": places, "ticktext": [text(_name(row)) for row in probes], "tickangle": -40},
        "yaxis": {"title": {"text": probes.metric, "standoff": 8}},
    }
    if math.isfinite(probes.own):
        line = {"color": "@good", "width": 1.4, "dash": "dash"}
        place = {"xref": "paper", "x0": 0, "x1": 1, "y0": probes.own, "y1": probes.own}
        layout["shapes"] = [{"type": "line", "line": line, **place}]
    choice = Choice(name="by layer", traces=traces, layout=layout, caption=_words(probes))
    return Figure(id=f"{key}-figure", title="A linear probe on every layer", choices=[choice], height=340)


def _trace(probes: LayerProbes, name: str, values: list[float], colour: str) -> Trace:
    return {
        "type": "scatter", "mode": "lines+markers", "name": name, "x": list(range(len(probes))), "y": values,
        "text": [text(_name(row)) for row in probes], "hovertemplate": "%{text}: %{y:.3g}",
        "line": {"color": colour, "width": 2}, "marker": {"color": colour, "size": 7},
    }  # fmt: skip


def _words(probes: LayerProbes) -> str:
    said = ", ".join(f"{_name(row)} {numeral(row.valid)}" for row in probes)
    own = f"; the model itself {numeral(probes.own)} (dashed)" if math.isfinite(probes.own) else ""
    return f"Validation {probes.metric} of a linear model by layer, {probes.n} examples: {said}{own}."


def _name(row: LayerProbe) -> str:
    return f"{row.name} {row.kind}".strip() if row.name else "the model"


def _cells(row: LayerProbe) -> list[str]:
    shape = " \u00d7 ".join(map(str, row.shape)) or "1"
    valid = numeral(row.valid)
    if math.isfinite(row.stderr):
        valid += f" \u00b1 {numeral(row.stderr, 2)}"
    return [text(row.name or "(model)"), text(row.kind), shape, str(row.features), numeral(row.train), valid]
