"""The hyper-parameters over the epochs, where they changed while the members of a search trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from downslope.core.space import Dimension, Integer, Log, OneMinus
from downslope.reporting.figure import Choice, Trace, log_axis
from downslope.tuning.schedule import stairs

if TYPE_CHECKING:
    from downslope.tuning.search import Search


def schedules(found: Search) -> list[Choice]:
    """For each key a line for each member: its values, and those of whom it descends from; the best bold.

    Empty of a search whose trials kept what they had.
    """
    changing = {each.number: rows for each in found.done if (rows := stairs(each))}
    if not changing:
        return []
    return [_of_key(found, key, found.space[key], changing) for key in found.space]


def _of_key(
    found: Search, key: str, dimension: Dimension, changing: dict[int, list[dict[str, Any]]]
) -> Choice:
    inner = dimension.inner
    flipped = isinstance(inner, OneMinus)
    best = found.best.number
    others = [_line(rows, key, flipped) for number, rows in changing.items() if number != best]
    x = [at for ats, _ in others for at in (*ats, None)]
    y = [value for _, values in others for value in (*values, None)]
    traces: list[Trace] = [{
        "type": "scatter", "mode": "lines", "name": "members", "x": x, "y": y, "opacity": 0.5,
        "line": {"color": "@muted", "width": 1, "shape": "hv"}, "hoverinfo": "skip", "connectgaps": False,
    }]  # fmt: skip
    if best in changing:
        ats, values = _line(changing[best], key, flipped)
        traces.append({
            "type": "scatter", "mode": "lines", "name": "the best", "x": ats, "y": values,
            "line": {"color": "@accent", "width": 3, "shape": "hv"},
            "hovertemplate": "from epoch %{x}: %{y:.4g}",
        })  # fmt: skip
    of = inner.of if isinstance(inner, OneMinus) else inner
    log = isinstance(of, Log) or (isinstance(of, Integer) and of.log)
    shown = [value for trace in traces for value in trace["y"] if value is not None]
    axis = {"title": {"text": f"1 - {key}" if flipped else key}} | (log_axis(shown) if log else {})
    layout = {"xaxis": {"title": {"text": "epoch"}}, "yaxis": axis}
    caption = f"{key} over the epochs, of each member with whom it descends from; the best is trial {best}."
    return Choice(name=f"schedule of {key}", traces=traces, layout=layout, caption=caption)


def _line(rows: Sequence[dict[str, Any]], key: str, flipped: bool) -> tuple[list[Any], list[Any]]:
    """Where each stair begins and its value, and the end of the last."""
    own = [row for row in rows if key in row]
    values = [1 - row[key] if flipped else row[key] for row in own]
    return [row["from"] for row in own] + [row["to"] for row in own[-1:]], values + values[-1:]
