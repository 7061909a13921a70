"""A search on the page: what it says, every trial by each key, parallel coordinates, curves, importance."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from downslope.core.errors import InputError
from downslope.core.space import Choice as Options
from downslope.core.space import Dimension, Integer, Log, OneMinus
from downslope.reporting.figure import Choice, Figure, Trace, finite, log_axis
from downslope.reporting.markup import Section, pairs, table, text
from downslope.reporting.notebook import painted
from downslope.reporting.search_rows import next_rows
from downslope.reporting.search_schedules import schedules
from downslope.tuning.compared import reached
from downslope.tuning.failures import diverged
from downslope.tuning.kept import SEARCH
from downslope.tuning.schedule import stairs
from downslope.tuning.told import cell, number

if TYPE_CHECKING:
    from downslope.tuning.search import Search
    from downslope.tuning.trial import Trial

EARLY = "ended early"
BANDS = ("best tenth", "best quarter", "others")
_BEYOND = (0.1, 0.25, 1.0)
_TONES = ("@accent", "@s2", "@muted")
WIDE = 50
"""Largest to smallest measure from which curves are shown in the logarithm."""
SHOWN = 10
"""Trials of the table."""


def section(found: Search, *, key: str = "search") -> Section:
    """What a search found, and pictures of all its trials.

    Args:
        found: The search.
        key: Anchor, unique on the page.
    """
    told = found.told()
    body = [f'<div class="card">{pairs(told)}</div>', _next(found)]
    if found.found:
        body.append(f'<div class="card">{_table(found)}</div>')
        body += [f'<div class="card">{each.html()}</div>' for each in figures(found, key)]
    return Section(
        id=key, title="The search", body="".join(body), lead=_lead(found), rank=18, short="Search",
        page=f"{_task(found) or 'Search'}: {', '.join(found.space)}", about=_about(found),
    )  # fmt: skip


def _task(found: Search) -> str:
    """What the user calls the problem; "" where it has no name."""
    said = found.plan.problem.describe()
    return Path(str(said.get("task") or "")).name or str(said.get("name") or "")


def _about(found: Search) -> str:
    """When it was searched, and where it is kept."""
    file = None if found.folder is None else found.folder / SEARCH
    if file is None or not file.is_file():
        return ""
    day = time.strftime("%Y-%m-%d %H:%M", time.localtime(file.stat().st_mtime))
    return f"{day}, kept in {found.folder}"


def _next(found: Search) -> str:
    """What to do next, as commands that can be copied; nothing of a search that is not kept."""
    if found.folder is None:
        return ""
    best = found.folder / "best.toml"
    task = str(found.plan.problem.describe().get("task") or "TASK")
    rows = next_rows(found, task, best if best.is_file() else None, None)
    said = "\n".join(each.text for each in rows if each.text.startswith("downslope "))
    return f'<div class="card"><h3>Next</h3><pre>{text(said)}</pre></div>' if said else ""


def figures(found: Search, key: str = "search") -> list[Figure]:
    """Every trial by each key; and the search as a whole."""
    slices = [_slice(found, name) for name in _ordered(found)]
    whole = [_parallel(found), _curves(found), _history(found), _importance(found)]
    views = [each for each in whole if each is not None] + schedules(found)
    return [
        Figure(id=f"{key}-keys", title=f"{found.measure} by key", choices=slices, height=340),
        Figure(id=f"{key}-whole", title="All trials", choices=views, height=380),
    ]


def plot(found: Search, kind: str = "importance") -> Any:
    """A `plotly.graph_objects.Figure`: "parallel", "curves", "history", "importance", or the name of a key.

    Raises:
        InputError: another kind, or nothing that could be drawn.
    """
    from plotly.graph_objects import Figure as Drawing

    if not found.found:
        raise InputError(f"nothing to draw: {found.nothing}")
    views = {each.name: each for figure in figures(found) for each in figure.choices}
    wanted = next(iter(views)) if kind == "slices" else kind
    if wanted not in views:
        raise InputError(f"kind={kind!r}: this search has {', '.join(views)}")
    view = views[wanted]
    layout = {"template": "plotly_white", **view.layout, "title": {"text": view.caption}}
    return Drawing(data=painted(finite(list(view.traces))), layout=painted(finite(layout)))


def _ordered(found: Search) -> list[str]:
    """The keys, the most important first."""
    return list(found.importance) or list(found.space)


def _lead(found: Search) -> str:
    label, words = found.told()[0]
    return f"{label.capitalize()}: {words}."


def _table(found: Search) -> str:
    keys = list(found.space)
    shown = [*found.done, *found.early][:SHOWN]
    early = [f"after {reached(each)} steps" if each.state == "pruned" else "" for each in shown]
    cells = [
        [str(each.number), f"{each.value:.4g}", *(text(cell(each, key)) for key in keys)]
        + ([end] if found.early else [])
        for each, end in zip(shown, early, strict=True)
    ]
    head = ["trial", found.measure, *keys, *([EARLY] if found.early else [])]
    return table(head, cells, numeric=range(1, len(keys) + 2))


def _values(each: Trial) -> dict[str, Any]:
    """What a trial had; of one that changed on its way the last, which stands beside its value."""
    rows = stairs(each)
    return dict(each.values) | ({k: v for k, v in rows[-1].items() if k in each.values} if rows else {})


def _bands(found: Search) -> list[list[Trial]]:
    """The trials with a value in the bands of `BANDS`."""
    done = list(found.done)
    ends = [math.ceil(share * len(done)) for share in _BEYOND]
    return [done[low:high] for low, high in zip([0, *ends[:-1]], ends, strict=True)]


def _axis(key: str, dimension: Dimension, values: Sequence[Any]) -> dict[str, Any]:
    inner = dimension.inner
    if isinstance(inner, Options):
        return {"title": {"text": key}, "type": "category"}
    of = inner.of if isinstance(inner, OneMinus) else inner
    name = f"1 - {key}" if isinstance(inner, OneMinus) else key
    if isinstance(of, Log) or (isinstance(of, Integer) and of.log):
        return {"title": {"text": name}, **log_axis(values or [of.low, of.high])}
    return {"title": {"text": name}}


def _shown(dimension: Dimension, value: Any) -> Any:
    if isinstance(dimension.inner, OneMinus):
        return 1 - value
    return str(value) if isinstance(dimension.inner, Options) else value


def _slice(found: Search, key: str) -> Choice:
    """Every trial by one key; those that diverged stand along the worse edge."""
    dimension = found.space[key]
    traces: list[Trace] = []
    for band, tone, trials in zip(BANDS, _TONES, _bands(found), strict=True):
        own = [each for each in trials if key in each.values]
        if own:
            traces.append(_points(band, tone, [_shown(dimension, _values(e)[key]) for e in own], own))
    early = [each for each in found.early if key in each.values]
    if early:
        at = [_shown(dimension, _values(each)[key]) for each in early]
        traces.insert(0, _points(EARLY, "@muted", at, early))
    values = [each.value or 0.0 for each in found.done]
    edge = min(values) if found.direction == "max" else max(values)
    gone = [each for each in diverged(found.trials) if key in each.values]
    if gone:
        traces.append({
            "type": "scatter", "mode": "markers", "name": "diverged",
            "x": [_shown(dimension, each.values[key]) for each in gone], "y": [edge] * len(gone),
            "marker": {"color": "@bad", "size": 8, "symbol": "x"}, "hovertemplate": "%{x}: diverged",
        })  # fmt: skip
    shown = [x for trace in traces for x in trace["x"]]
    layout = {"xaxis": _axis(key, dimension, shown), "yaxis": {"title": {"text": found.measure}}}
    caption = f"{found.measure} of {len(found.done)} trials by {key}{_more(found)}"
    sure = next(each for each in found.trials if each.number == found.best.number)
    last = " at its end" if stairs(sure) else ""
    caption += f"; the best has {number(_values(sure).get(key))}{last}."
    return Choice(name=key, traces=traces, layout=layout, caption=caption)


def _points(name: str, tone: str, x: Sequence[Any], trials: Sequence[Trial]) -> Trace:
    """A point a trial; paler where it was ended early, with the value that it had there."""
    pale = name == EARLY
    marker = {"color": tone, "size": 6 if pale else 7, "opacity": 0.35 if pale else 0.8}
    return {
        "type": "scatter", "mode": "markers", "name": name, "x": list(x), "y": [e.value for e in trials],
        "marker": marker, "hovertemplate": "%{x}: %{y:.4g}",
    }  # fmt: skip


def _more(found: Search) -> str:
    """The trials that are shown besides those that came to their end."""
    many = len(found.early)
    return f", and of {many} that ended early, paler, as far as they came" if many else ""


def _parallel(found: Search) -> Choice | None:
    """A line a trial over one axis a key, each at its quantile of the space."""
    keys = list(found.space)
    if len(keys) < 2:
        return None
    traces: list[Trace] = []
    bands = [*zip(BANDS, _TONES, _bands(found), strict=True), (EARLY, "@muted", list(found.early))]
    for band, tone, trials in reversed([each for each in bands if each[2]]):
        pale = band in (BANDS[-1], EARLY)
        x: list[float | None] = []
        y: list[float | None] = []
        for each in trials:
            for at, key in enumerate(keys):
                x.append(at)
                y.append(_place(found.space[key], _values(each)[key]) if key in each.values else None)
            x, y = [*x, None], [*y, None]
        traces.append({
            "type": "scatter", "mode": "lines+markers", "name": band, "x": x, "y": y,
            "line": {"color": tone, "width": 1.0 if pale else 1.8}, "marker": {"size": 4},
            "hoverinfo": "skip", "opacity": 0.2 if band == EARLY else 0.35 if pale else 0.9,
            "connectgaps": False,
        })  # fmt: skip
    ends = [(number(each.draw(0.0)), number(each.draw(1.0))) for each in found.space.values()]
    words = [f"{key}<br>{low} to {high}" for key, (low, high) in zip(keys, ends, strict=True)]
    layout = {
        "xaxis": {"tickvals": list(range(len(keys))), "ticktext": words, "showgrid": True, "zeroline": False},
        "yaxis": {"title": {"text": "place in its range"}, "range": [-0.05, 1.05]},
    }
    caption = "Each trial as a line over the keys: where the best run together, the key decides."
    caption += f" Palest: {len(found.early)} that ended early." if found.early else ""
    return Choice(name="parallel", traces=traces, layout=layout, caption=caption)


def _place(dimension: Dimension, value: Any) -> float:
    try:
        return dimension.place(value)
    except InputError:
        return math.nan


def _curves(found: Search) -> Choice | None:
    """The measure over the steps: the middle half of each band, and the best."""
    curves = found.curves
    traces = _stopped(found)
    for band, tone, trials in reversed(list(zip(BANDS, _TONES, _bands(found), strict=True))):
        own = [curves[each.number] for each in trials if each.number in curves]
        if own:
            traces += _band(band, tone, own)
    best = curves.get(found.best.number)
    if best is not None:
        traces.append({
            "type": "scatter", "mode": "lines", "name": "the best", "x": list(best[0]), "y": list(best[1]),
            "line": {"color": "@ink", "width": 2.4}, "hovertemplate": "step %{x}: %{y:.4g}",
        })  # fmt: skip
    if not traces:
        return None
    seen = [y for trace in traces for y in trace["y"] if y is not None and math.isfinite(y)]
    wide = log_axis(seen) if min(seen, default=0) > 0 and max(seen) > WIDE * min(seen) else {}
    layout = {"xaxis": {"title": {"text": "step"}}, "yaxis": {"title": {"text": found.measure}, **wide}}
    caption = f"{found.measure} over the steps: medians and middle halves of the trials, and the best"
    caption += f"; {len(found.early)} that ended early, each by itself." if found.early else "."
    return Choice(name="curves", traces=traces, layout=layout, caption=caption)


def _stopped(found: Search) -> list[Trace]:
    """The curves of the trials that ended early, as one pale line with gaps."""
    x: list[float | None] = []
    y: list[float | None] = []
    for steps, values in (found.curves[each.number] for each in found.early if each.number in found.curves):
        x, y = [*x, *steps, None], [*y, *values, None]
    if not x:
        return []
    return [{
        "type": "scatter", "mode": "lines+markers", "name": EARLY, "x": x, "y": y, "opacity": 0.35,
        "line": {"color": "@muted", "width": 1}, "marker": {"size": 4}, "hoverinfo": "skip",
        "connectgaps": False,
    }]  # fmt: skip


def _band(name: str, tone: str, curves: Sequence[Any]) -> list[Trace]:
    """Median and quartiles of curves, at the steps of the longest."""
    steps = max((steps for steps, _ in curves), key=len)
    rows = [[dict(zip(s, v, strict=True)).get(step, math.nan) for step in steps] for s, v in curves]
    values = np.asarray(rows, dtype=float)
    known = [i for i in range(len(steps)) if np.isfinite(values[:, i]).any()]
    if not known:
        return []
    at = [steps[i] for i in known]
    low, mid, high = (np.nanquantile(values[:, known], q, axis=0).tolist() for q in (0.25, 0.5, 0.75))
    edge: Trace = {"type": "scatter", "mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "x": at}
    filled = {"fill": "tonexty", "fillcolor": "rgba(128,128,128,0.16)", "showlegend": False}
    line: Trace = {
        "type": "scatter", "mode": "lines", "name": name, "x": at, "y": mid,
        "line": {"color": tone, "width": 1.8}, "hovertemplate": "step %{x}: %{y:.4g}",
    }  # fmt: skip
    return [edge | {"y": high, "showlegend": False}, edge | filled | {"y": low}, line]


def _history(found: Search) -> Choice:
    """The value of each trial in the order in which they began, and the best so far."""
    done = sorted(found.done, key=lambda each: each.number)
    values = np.asarray([each.value for each in done], dtype=float)
    so_far = np.maximum.accumulate(values) if found.direction == "max" else np.minimum.accumulate(values)
    numbers = [each.number for each in done]
    points: Trace = {
        "type": "scatter", "mode": "markers", "name": "trial", "x": numbers, "y": values.tolist(),
        "marker": {"color": "@muted", "size": 6}, "hovertemplate": "trial %{x}: %{y:.4g}",
    }  # fmt: skip
    line: Trace = {
        "type": "scatter", "mode": "lines", "name": "best so far", "x": numbers, "y": so_far.tolist(),
        "line": {"color": "@accent", "width": 2, "shape": "hv"}, "hovertemplate": "%{y:.4g}",
    }  # fmt: skip
    layout = {"xaxis": {"title": {"text": "trial"}}, "yaxis": {"title": {"text": found.measure}}}
    early = sorted(found.early, key=lambda each: each.number)
    pale = [_points(EARLY, "@muted", [each.number for each in early], early)] if early else []
    caption = (
        f"{found.measure} trial by trial{_more(found)}; the best was found by trial {found.done[0].number}."
    )
    return Choice(name="history", traces=[*pale, points, line], layout=layout, caption=caption)


def _importance(found: Search) -> Choice | None:
    """The share of each key; pale where it is no more than chance."""
    known = found.importances
    if len(known) < 2:
        return None
    keys = [each.key for each in known]
    bars: Trace = {
        "type": "bar", "name": "importance", "x": keys, "y": [each.share for each in known],
        "marker": {"color": ["@accent" if each.mattered else "@muted" for each in known]},
        "customdata": [each.p for each in known], "hovertemplate": "%{x}: %{y:.2f}, p %{customdata:.3f}",
    }  # fmt: skip
    layout = {"xaxis": {"type": "category"}, "yaxis": {"title": {"text": "share of the importance"}}}
    caption = f"Importance (PED-ANOVA): {', '.join(str(each) for each in known)}"
    caption += "." if found.compared_at is None else f", by the values as of step {found.compared_at}."
    return Choice(name="importance", traces=[bars], layout=layout, caption=caption)
