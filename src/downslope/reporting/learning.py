"""The learning curve, and the table of bias and variance: on the page and in the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from downslope.reporting import console
from downslope.reporting.figure import Choice, Figure, Trace
from downslope.reporting.markup import Section, table, text
from downslope.reporting.numerals import count, numeral
from downslope.reporting.rows import Row
from downslope.training.bias_variance import BiasVariance
from downslope.training.bias_variance import Row as Group
from downslope.training.learning_curve import LearningCurve

WORST = 7
"""Lines of the table of groups in the terminal, its head among them."""

BEYOND = 4.0
"""How far past the data the fitted curve is drawn, in multiples of it."""


def curve_section(curve: LearningCurve, *, key: str = "learning") -> Section:
    """Errors against the number of examples, the power law through them, and what it leaves open.

    Args:
        curve: What was measured.
        key: Anchor, unique on the page.
    """
    body = f'<div class="card">{_figure(curve, key).html()}</div>'
    return Section(id=key, title="Would more data help?", body=body, lead=_capital(curve.said), rank=20,
                   short="Data")  # fmt: skip


def bias_section(found: BiasVariance, *, key: str = "bias") -> Section:
    """Training error, validation error, bias and variance, over all and group by group.

    Args:
        found: What was measured.
        key: Anchor, unique on the page.
    """
    head = [
        "group",
        "examples",
        f"train {found.measure}",
        f"valid {found.measure}",
        "bias",
        "variance",
        "larger",
    ]
    rows = [_cells(each) for each in (found.all, *found.groups)]
    lead = (
        "Bias is the training error beyond what can be achieved, variance the validation error beyond the "
        "training error. A number counts from two standard errors on; of twenty rows one does so by chance."
    )
    body = f'<div class="card">{table(head, rows, numeric=(1, 2, 3, 4, 5))}</div>'
    return Section(id=key, title="Bias and variance", body=body, lead=lead, rank=22, short="Bias")


def rows(
    curve: LearningCurve,
    found: BiasVariance | None = None,
    task: str | None = None,
    written: Path | None = None,
) -> list[Row]:
    """Both as terminal rows: what ran, the errors by size, the verdict, the worst groups, what comes next."""
    last = curve.runs[-1]
    head, *lines = str(curve).splitlines()[:-1]
    told = [*console.header(last), Row(f"{last.summary['steps']} steps for every size", label="curve")]
    told += [Row(head, indent=2, tone="faint", whole=True)]
    told += [Row(line, indent=2, whole=True) for line in lines]
    told.append(Row(curve.said, label="more"))
    if found is not None:
        groups = str(found).splitlines()
        told.append(Row(f"of the last run on all {curve.sizes[-1]} examples", label="error"))
        told += [Row(line, indent=2, whole=True) for line in groups[:WORST]]
        if (left := len(groups) - WORST) > 0:
            told.append(Row(f"{left} more groups: --json and --report have them", indent=2, tone="faint"))
    follow = console.opened(written)
    if not follow and task is not None:
        follow = [Row(f"downslope diagnose {task}", label="next", whole=True)]
    return [*told, *follow]


def _figure(curve: LearningCurve, key: str) -> Figure:
    traces = _law(curve)
    for name, values, colour in (("training", curve.train, "@train"), ("validation", curve.valid, "@valid")):
        traces += _measured(curve, name, values, colour)
    ticks = [*curve.sizes.tolist(), 2 * int(curve.sizes[-1]), 4 * int(curve.sizes[-1])]
    layout: dict[str, Any] = {
        "xaxis": {
            "type": "log",
            "title": {"text": "training examples", "standoff": 6},
            "tickvals": ticks,
            "ticktext": [count(each) for each in ticks],
        },
        "yaxis": {"title": {"text": curve.measure, "standoff": 8}, "rangemode": "tozero"},
    }
    if (goal := curve.achievable) is not None:
        line = {"color": "@good", "width": 1.4, "dash": "dash"}
        place = {"xref": "paper", "x0": 0, "x1": 1, "y0": goal, "y1": goal}
        layout["shapes"] = [{"type": "line", "line": line, **place}]
    choice = Choice(name="error", traces=traces, layout=layout, caption=_words(curve))
    return Figure(id=f"{key}-curve", title="Error against examples", choices=[choice], height=360)


def _law(curve: LearningCurve) -> list[Trace]:
    """The fitted curve, beyond the data too, in the band of what the data leaves open."""
    law, first, last = curve.law, float(curve.sizes[0]), float(curve.sizes[-1])
    if law is None:
        return []
    grid: list[float] = np.geomspace(first, BEYOND * last, 24).tolist()
    bounds = [law.at(n) for n in grid]
    edge: Trace = {"type": "scatter", "mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "x": grid}
    filled = {"fill": "tonexty", "fillcolor": "rgba(128,128,128,0.18)", "name": "95 %"}
    middle: Trace = {
        "type": "scatter", "mode": "lines", "name": "power law", "x": grid,
        "y": [each.value for each in bounds], "line": {"color": "@muted", "width": 1.6, "dash": "dot"},
        "hovertemplate": "%{y:.3g}",
    }  # fmt: skip
    high = edge | {"y": [each.high for each in bounds], "showlegend": False}
    return [high, edge | filled | {"y": [each.low for each in bounds]}, middle]


def _measured(curve: LearningCurve, name: str, values: Any, colour: str) -> list[Trace]:
    """Every seed as a faint point, their means as a line."""
    sizes = curve.sizes.astype(float)
    each: Trace = {
        "type": "scatter", "mode": "markers", "x": np.repeat(sizes, values.shape[1]), "showlegend": False,
        "y": values.ravel(), "marker": {"color": colour, "size": 5, "opacity": 0.45},
        "hovertemplate": "%{y:.3g}",
    }  # fmt: skip
    means: Trace = {
        "type": "scatter", "mode": "lines+markers", "name": name, "x": sizes, "y": values.mean(1),
        "line": {"color": colour, "width": 2}, "marker": {"color": colour, "size": 7},
        "hovertemplate": "%{y:.3g}",
    }  # fmt: skip
    return [each, means]


def _words(curve: LearningCurve) -> str:
    pairs = ", ".join(
        f"{n}: {numeral(float(valid))} (training {numeral(float(train))})"
        for n, train, valid in zip(curve.sizes, curve.train.mean(1), curve.valid.mean(1), strict=True)
    )
    seeds = curve.valid.shape[1]
    return f"Mean validation {curve.measure} of {seeds} seeds by examples: {pairs}. {_capital(curve.said)}."


def _cells(row: Group) -> Sequence[str]:
    bias = "-" if row.bias is None else numeral(row.bias)
    errors = [_pm(*row.train), _pm(*row.valid), bias, _pm(row.variance, row.variance_stderr)]
    return [text(row.group), f"{count(row.train_n)} / {count(row.valid_n)}", *errors, text(row.larger)]


def _pm(value: float, error: float) -> str:
    if math.isnan(value):
        return "-"
    return numeral(value) if math.isnan(error) else f"{numeral(value)} \u00b1 {numeral(error, 2)}"


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]
