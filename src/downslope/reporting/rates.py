"""The learning-rate range test, drawn: the loss over the rate with its error, the range, the stable limit."""

from __future__ import annotations

import math

from downslope.reporting.figure import Choice, Figure, Trace, log_axis
from downslope.reporting.markup import Section, table
from downslope.reporting.numerals import numeral
from downslope.training.rate_range import RateRange


def section(found: RateRange, *, key: str = "range") -> Section:
    """The range as a section of a page: one line, the picture, the table."""
    rows = [
        (numeral(row.lr), numeral(row.loss), *_share(row.gain, row.stderr), "yes" if row.stable else "no")
        for row in found.table
    ]
    head = ("learning rate", "loss", "share taken off", "standard error", "stable")
    drawn = f'<div class="card">{figure(found, key).html()}</div>' if found.table else ""
    listed = f'<div class="card">{table(head, rows, numeric=(0, 1, 2, 3))}</div>' if rows else ""
    body = f"<p>{str(found)[0].upper()}{str(found)[1:]}.</p>{drawn}{listed}"
    return Section(id=key, title="Learning rates", body=body, rank=35, short="Rates")


def figure(found: RateRange, key: str = "range") -> Figure:
    """The mean loss after the test's steps over the rate, on logarithmic axes."""
    shown = [row for row in found.table if math.isfinite(row.loss) and row.gain > -1]
    positive = all(row.loss > 0 for row in shown) and found.baseline > 0
    line: Trace = {
        "type": "scatter", "mode": "lines+markers", "name": f"loss after {found.steps} steps",
        "x": [row.lr for row in shown], "y": [row.loss for row in shown],
        "error_y": {
            "type": "data", "array": [2 * row.stderr * abs(found.baseline) for row in shown],
            "color": "@muted", "thickness": 1,
        },
        "line": {"color": "@accent", "width": 2}, "marker": {"color": "@accent", "size": 6},
        "hovertemplate": "lr %{x:.3g}: %{y:.4g}",
    }  # fmt: skip
    spread = [row.lr for row in found.table]
    level: Trace = {
        "type": "scatter", "mode": "lines", "name": "without training", "hoverinfo": "skip",
        "x": [min(spread), max(spread)], "y": [found.baseline] * 2,
        "line": {"color": "@muted", "width": 1.5, "dash": "dash"},
    }  # fmt: skip
    layout = {
        "xaxis": {"title": {"text": "learning rate"}, "type": "log", "tickformat": "~g"},
        "yaxis": {
            "title": {"text": "loss", "standoff": 8},
            **(log_axis([row.loss for row in shown]) if positive else {}),
        },
        "shapes": _shapes(found),
    }
    choice = Choice(name="loss", traces=[line, level], layout=layout, caption=_words(found))
    return Figure(id=f"{key}-loss", title="Loss over the learning rate", choices=[choice], height=340)


def _share(gain: float, stderr: float) -> tuple[str, str]:
    """The share of the loss that a rate takes off and its error, where it has a meaning."""
    told = math.isfinite(gain) and gain > -10
    return (f"{gain:.3f}", f"{stderr:.3f}" if math.isfinite(stderr) else "-") if told else ("-", "-")


def _shapes(found: RateRange) -> list[Trace]:
    whole = {"yref": "paper", "y0": 0, "y1": 1}
    shapes: list[Trace] = []
    if found.low is not None and found.high is not None:
        shapes.append(
            {"type": "rect", "x0": found.low, "x1": found.high, **whole, "fillcolor": "@good",
             "opacity": 0.12, "line": {"width": 0}}
        )  # fmt: skip
    if found.suggested is not None:
        line = {"color": "@good", "width": 1.6}
        shapes.append({"type": "line", "x0": found.suggested, "x1": found.suggested, **whole, "line": line})
    if found.limit is not None:
        edge = math.sqrt(found.limit[0] * found.limit[1])
        line = {"color": "@bad", "width": 1.4, "dash": "dot"}
        shapes.append({"type": "line", "x0": edge, "x1": edge, **whole, "line": line})
    return shapes


def _words(found: RateRange) -> str:
    if found.reason is not None:
        return f"No learning rate: {found.reason}."
    edge = ""
    if found.limit is not None:
        edge = f" From {numeral(found.limit[1])} on the loss of a seed ends higher than it began."
    return (
        f"From {numeral(found.low or 0)} to {numeral(found.high or 0)} a rate takes off at least 0.8 of what "
        f"the best, {numeral(found.suggested or 0)}, does; bars are two standard errors over "
        f"{len(found.seeds)} seeds.{edge}"
    )
