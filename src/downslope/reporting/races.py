"""A race on the page: who won, performance profiles, time to target, levels, curves with bands, rates."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from downslope.core.errors import InputError
from downslope.racing.ledger import FILE
from downslope.racing.profile import LIMIT
from downslope.racing.told import lines, sure, verdict
from downslope.reporting.figure import Choice, Figure, Trace, finite, log_axis
from downslope.reporting.hues import DASHES, SYMBOLS
from downslope.reporting.markup import Section, table, text
from downslope.reporting.notebook import painted

if TYPE_CHECKING:
    from downslope.racing.batch_sizes import BatchRace
    from downslope.racing.entry import Entry
    from downslope.racing.outcome import Outcome
    from downslope.racing.result import Race

TONES = ("@s1", "@s2", "@s3", "@s4", "@s5", "@s6", "@s7", "@s8")


def section(found: Race, *, key: str = "race") -> Section:
    """What a race found, and its pictures.

    Args:
        found: The race.
        key: Anchor, unique on the page.
    """
    said = "\n".join(lines(found))
    body = _listed("What the seeds say", sure(found))
    body += f'<div class="card">{_table(found)}</div>'
    body += _listed("To be known", found.notes)
    body += f'<div class="card"><details><summary>As text</summary><pre>{text(said)}</pre></details></div>'
    body += "".join(f'<div class="card">{each.html()}</div>' for each in figures(found, key))
    lead = verdict(found)
    lead = f"{lead[0].upper()}{lead[1:]}."
    return Section(
        id=key, title="The race", body=body, lead=lead, rank=18, short="Race", about=_kept(found),
        page=f"{', '.join(found.contestants)} on {', '.join(found.problems)}",
    )  # fmt: skip


def _kept(found: Race) -> str:
    """When it was raced, where it is kept, and how one goes on with it."""
    file = None if found.folder is None else found.folder / FILE
    if file is None or not file.is_file():
        return ""
    day = time.strftime("%Y-%m-%d %H:%M", time.localtime(file.stat().st_mtime))
    cut = found.status in ("interrupted", "time")
    on = f"; to go on: downslope resume {found.folder}" if cut else ""
    return f"{day}, kept in {found.folder}{on}"


def _listed(title: str, said: Sequence[str]) -> str:
    rows = "".join(f"<li>{text(each)}</li>" for each in said)
    return f'<div class="card"><h3>{text(title)}</h3><ul>{rows}</ul></div>' if said else ""


def batch_section(found: BatchRace, *, key: str = "batch-race") -> Section:
    """Batch sizes against the clock."""
    head = ["batch", "lr", "steps", "seconds", "training loss at the end"]
    rows: list[list[str]] = []
    for each in found.curves:
        steps = float(each.steps[-1]) if len(each.steps) else None
        rows.append([str(each.size), *map(_number, (each.lr, steps, each.total, each.end))])
    body = f'<div class="card">{table(head, rows, numeric=range(1, 5))}</div>'
    if found.curves:
        figure = Figure(
            id=f"{key}-clock", title="Loss against the clock", choices=[_clock(found), _data(found)]
        )
        body += f'<div class="card">{figure.html()}</div>'
    body += _listed("To be known", found.notes)
    lead = "One example a step, a few, many, all of them, against the clock."
    return Section(id=key, title="Batch sizes", body=body, lead=lead, rank=18, short="Batches")


def figures(found: Race, key: str = "race") -> list[Figure]:
    """The race as a whole, then each problem."""
    made: list[Figure] = []
    whole = list(_whole(found))
    if whole:
        made.append(Figure(id=f"{key}-whole", title="Time to target", choices=whole, height=340))
    for place, name in enumerate(found.problems):
        views = list(_of_problem(found, name))
        if views:
            height = max(260, 160 + 34 * len(found.contestants))
            made.append(Figure(id=f"{key}-{place}", title=name, choices=views, height=height))
    return made


def plot(found: Race, kind: str = "profile", problem: str | None = None) -> Any:
    """A `plotly.graph_objects.Figure`.

    Args:
        found: The race.
        kind: "profile" or "seconds" (profiles in steps and in seconds), "times" (bars), "levels", "curves" or
            "rates" (of the tuning).
        problem: Of the last three; left out, the first.

    Raises:
        InputError: another kind, or nothing that could be drawn.
    """
    views = {each.name: each for each in _whole(found)}
    views |= {each.name: each for each in _of_problem(found, problem or found.problems[0])}
    if kind not in views:
        raise InputError(f"kind={kind!r}: this race has {', '.join(views) or 'nothing to draw'}")
    return _drawing(views[kind])


def plot_batches(found: BatchRace) -> Any:
    """Loss against seconds for each size, both logarithmic.

    Raises:
        InputError: no curve.
    """
    if not found.curves:
        raise InputError("nothing to draw: no batch size came to its end")
    return _drawing(_clock(found))


def _drawing(view: Choice) -> Any:
    from plotly.graph_objects import Figure as Drawing

    layout = {"template": "plotly_white", **view.layout, "title": {"text": view.caption}}
    return Drawing(data=painted(finite(list(view.traces))), layout=painted(finite(layout)))


def _whole(found: Race) -> Iterator[Choice]:
    aimed = any(not math.isnan(each.target.level) for each in found.entries)
    if found.seeds and len(found.racing) > 1 and aimed:
        yield _profile(found, "steps")
        if all(math.isfinite(each.step_seconds) for each in found.entries if not each.error):
            yield _profile(found, "seconds")
        yield _times(found)


def _of_problem(found: Race, problem: str) -> Iterator[Choice]:
    own = [each for each in found.entries if each.problem == problem and not each.error]
    if any(each.raced for each in own):
        yield _levels(own)
        yield _curves(own)
    if any("lr" in one.values for each in own for one in each.tuning):
        yield _rates(own)


def _profile(found: Race, clock: Any) -> Choice:
    held = found.profile(clock)
    scores = held.score()
    traces: list[Trace] = []
    for place, name in enumerate(held.names):
        taus, shares = held.steps(name)
        inside = taus <= LIMIT
        x, y = taus[inside].tolist(), shares[inside].tolist()
        x, y = [1.0, *x, LIMIT], [held.at(1.0)[name], *y, held.at(LIMIT)[name]]
        traces.append({
            "type": "scatter", "mode": "lines", "name": f"{name} {scores[name]:.3f}", "x": x, "y": y,
            "line": {"color": TONES[place % 8], "shape": "hv", "width": 2.5, "dash": DASHES[place % 8]},
        })  # fmt: skip
    of = "problems" if len(found.problems) > 1 else "seeds"
    layout = {
        "xaxis": {"title": {"text": f"{clock} over those of the fastest"}, "range": [1, LIMIT]},
        "yaxis": {"title": {"text": f"share of {of} solved"}, "range": [-0.02, 1.04]},
    }
    most = max(scores.values())
    best = " and ".join(name for name in scores if scores[name] == most)
    name = "profile" if clock == "steps" else "seconds"
    caption = f"Performance profiles in {clock}; the largest area, {most:.3f}, is that of {best}"
    return Choice(name=name, traces=traces, layout=layout, caption=caption)


def _times(found: Race) -> Choice:
    traces: list[Trace] = []
    for place, name in enumerate(found.racing):
        medians = [found.entry(name, problem).median_steps for problem in found.problems]
        traces.append({
            "type": "bar", "name": name, "x": found.problems, "marker": {"color": TONES[place % 8]},
            "y": [each if math.isfinite(each) else None for each in medians],
            "text": [f"{each:.0f}" if math.isfinite(each) else "never" for each in medians],
            "textposition": "outside", "cliponaxis": False,
        })  # fmt: skip
    caption = "Median steps to the target; never: half of the seeds or more did not get there"
    layout = {
        "yaxis": {"title": {"text": "steps to target"}, "rangemode": "tozero"},
        "barmode": "group", "bargap": 0.35,
    }  # fmt: skip
    return Choice(name="times", traces=traces, layout=layout, caption=caption)


def _levels(own: Sequence[Entry]) -> Choice:
    """A row for each contestant: its seeds as dots, their mean and its interval."""
    traces: list[Trace] = []
    for place, each in enumerate(own):
        level = each.level
        half = [level.high - level.mean] if math.isfinite(level.high) else [0.0]
        traces.append({
            "type": "scatter", "mode": "markers", "name": f"{each.contestant}, seeds", "showlegend": False,
            "y": [each.contestant] * len(each.levels), "x": each.levels,
            "marker": {"color": TONES[place % 8], "opacity": 0.45, "size": 8},
        })  # fmt: skip
        traces.append({
            "type": "scatter", "mode": "markers", "name": each.contestant, "y": [each.contestant],
            "x": [level.mean],
            "marker": {"color": TONES[place % 8], "size": 12, "symbol": SYMBOLS[place % 8]},
            "error_x": {"type": "data", "array": half, "color": TONES[place % 8], "thickness": 2},
        })  # fmt: skip
    lost = [f"{each.contestant} lost {each.lost}" for each in own if each.lost]
    better = "right" if own[0].measure.up else "left"
    caption = f"Final {own[0].measure} of every seed, mean and 95 %; better is further {better}"
    caption += f"; {', '.join(lost)}" if lost else ""
    layout = {
        "xaxis": {"title": {"text": str(own[0].measure)}}, "showlegend": False,
        "yaxis": {"type": "category", "range": [len(own) - 0.5, -0.5]},
    }  # fmt: skip
    return Choice(name="levels", traces=traces, layout=layout, caption=caption)


def _curves(own: Sequence[Entry]) -> Choice:
    traces: list[Trace] = []
    short: list[str] = []
    for place, each in enumerate(own):
        steps = max((one.steps for one in each.raced), key=len, default=())
        whole = [one.levels for one in each.raced if one.steps == steps]
        if len(whole) < len(each.raced):
            short.append(f"{len(each.raced) - len(whole)} of {each.contestant}")
        if not whole or not steps:
            continue
        low, middle, high = np.nanquantile(np.asarray(whole, dtype=np.float64), (0.1, 0.5, 0.9), axis=0)
        tone = TONES[place % 8]
        traces.append({
            "type": "scatter", "mode": "lines", "x": [*steps, *reversed(steps)], "y": [*low, *high[::-1]],
            "fill": "toself", "fillcolor": tone, "opacity": 0.18, "line": {"width": 0}, "hoverinfo": "skip",
            "showlegend": False, "name": f"{each.contestant}, band",
        })  # fmt: skip
        traces.append({
            "type": "scatter", "mode": "lines", "name": each.contestant, "x": list(steps),
            "y": middle.tolist(),
            "line": {"color": tone, "width": 2.5, "dash": DASHES[place % 8]},
        })  # fmt: skip
    target = own[0].target
    shapes = [] if math.isnan(target.level) else [_line(target.level)]
    layout = {
        "xaxis": {"title": {"text": "step"}}, "yaxis": {"title": {"text": str(own[0].measure)}},
        "shapes": shapes,
    }  # fmt: skip
    aim = "" if math.isnan(target.level) else f"; the line is the target, {target.level:.4g}"
    cut = f"; without seeds that ended early: {', '.join(short)}" if short else ""
    caption = f"Median over the seeds and the middle 80 %{aim}{cut}"
    return Choice(name="curves", traces=traces, layout=layout, caption=caption)


def _rates(own: Sequence[Entry]) -> Choice:
    traces: list[Trace] = []
    for place, each in enumerate(own):
        tried = sorted((lr, one.level) for one in each.tuning if (lr := _rate(each, one)) is not None)
        kept = [(lr, level) for lr, level in tried if math.isfinite(level)]
        traces.append({
            "type": "scatter", "mode": "lines+markers", "name": each.contestant,
            "x": [lr for lr, _ in kept], "y": [level for _, level in kept],
            "line": {"color": TONES[place % 8], "width": 1.4, "dash": DASHES[place % 8]},
            "marker": {"color": TONES[place % 8], "size": 8, "symbol": SYMBOLS[place % 8]},
        })  # fmt: skip
    gone = sum(one.lost for each in own for one in each.tuning)
    rates: list[float] = [lr for trace in traces for lr in trace["x"]]
    layout = {
        "xaxis": {"title": {"text": "learning rate"}, **log_axis(rates)},
        "yaxis": {"title": {"text": str(own[0].measure)}},
    }
    caption = "Every trial of the tuning by its learning rate" + (
        f"; {gone} diverged or failed" if gone else ""
    )
    return Choice(name="rates", traces=traces, layout=layout, caption=caption)


def _rate(of: Entry, one: Outcome) -> float | None:
    """The rate of a trial; of the first one that of the recipe as given."""
    as_given = of.given.lr if of.given is not None and not one.values else None
    found = one.values.get("lr", as_given)
    return None if not found else float(found)


def _data(found: BatchRace) -> Choice:
    """The same over the passes: what a size gets out of the data."""
    clock = _clock(found)
    traces = [
        {**trace, "x": each.epochs.tolist()} for trace, each in zip(clock.traces, found.curves, strict=True)
    ]
    passes = np.concatenate([each.epochs for each in found.curves])
    axis = {"title": {"text": "passes over the data"}, **log_axis(passes)}
    layout = {**clock.layout, "xaxis": axis}
    caption = f"Training loss against the data by batch size, {found.optimizer}, rates {found.rate}"
    return Choice(name="data", traces=traces, layout=layout, caption=caption)


def _clock(found: BatchRace) -> Choice:
    traces: list[Trace] = [
        {
            "type": "scatter", "mode": "lines+markers", "name": f"{each.size} (lr {_number(each.lr)})",
            "x": each.seconds.tolist(), "y": each.loss.tolist(),
            "line": {"color": TONES[place % 8], "width": 2.2, "dash": DASHES[place % 8]},
            "marker": {"color": TONES[place % 8], "size": 5, "symbol": SYMBOLS[place % 8]},
        }
        for place, each in enumerate(found.curves)
    ]  # fmt: skip
    positive = all((each.loss > 0).all() for each in found.curves)
    seconds = np.concatenate([each.seconds for each in found.curves])
    losses = np.concatenate([each.loss for each in found.curves])
    layout = {
        "xaxis": {"title": {"text": "seconds"}, **log_axis(seconds)},
        "yaxis": {"title": {"text": "training loss"}} | (log_axis(losses) if positive else {}),
    }
    caption = f"Training loss against the clock by batch size, {found.optimizer}, rates {found.rate}"
    return Choice(name="clock", traces=traces, layout=layout, caption=caption)


def _line(level: float) -> dict[str, Any]:
    line = {"color": "@muted", "width": 1.5, "dash": "dot"}
    return {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": level, "y1": level, "line": line}


def _table(found: Race) -> str:
    head = [
        "problem", "contestant", "level", "95 %", "lost", "got there", "steps to target", "seconds",
        "runs of tuning", "tuned to",
    ]  # fmt: skip
    rows: list[list[str]] = []
    for each in found.entries:
        if each.error:
            rows.append([text(each.problem), text(each.contestant), *[""] * 7, text(f"out: {each.error}")])
            continue
        level = each.level
        span = f"{level.low:.4g} to {level.high:.4g}" if math.isfinite(level.low) else ""
        chosen = ", ".join(f"{k} {_number(v)}" for k, v in each.values.items()) or "as given"
        values = "other values for every seed" if each.anew else chosen
        rows.append([
            text(each.problem), text(each.contestant), _number(level.mean), span, str(each.lost),
            "-" if math.isnan(each.target.level) else f"{each.arrived} of {len(each.raced)}",
            _number(each.median_steps), _number(each.median_seconds), f"{each.tuning_cost['runs']:.0f}",
            text(values),
        ])  # fmt: skip
    return table(head, rows, numeric=range(2, 9))


def _number(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if isinstance(value, float) and math.isinf(value):
        return "never"
    return f"{value:.4g}" if isinstance(value, (int, float)) and not isinstance(value, bool) else str(value)
