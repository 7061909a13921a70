"""Curves of one run: losses by step, the metric by epoch, the size of the gradient, the learning rate."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, cast

import numpy as np

from downslope.core.finding import Finding
from downslope.core.history import Floats, Ints, Series
from downslope.core.run import Run
from downslope.reporting import facts
from downslope.reporting.figure import Choice, Figure, Trace, by_step, log_axis, vertical
from downslope.reporting.markup import Section, empty
from downslope.reporting.numerals import numeral

_SHARES = ("accuracy", "balanced_accuracy", "f1", "auc")
"""Metrics between 0 and 1, drawn on the whole of it once they come far."""

POINTS = 3000
"""Points up to which a curve is drawn whole; a longer one keeps the extremes of each of its parts."""


def section(
    run: Run, findings: Sequence[Finding] = (), *, key: str = "curves", title: str = "How training went"
) -> Section:
    """Curves of a run, with a mark where each finding begins.

    Args:
        run: The run.
        findings: Findings whose steps are marked.
        key: Anchor, unique on the page.
        title: Heading.
    """
    loss = loss_figure(run, findings, key)
    if loss is None:
        why = facts.status(run) or "the run holds no loss"
        return Section(
            id=key, title=title, body=f'<div class="card">{empty(f"No curve: {why}.")}</div>', rank=30
        )
    metric = metric_figure(run, key)
    cards = [f'<div class="card">{each.html()}</div>' for each in (loss, metric) if each is not None]
    body = f'<div class="two">{"".join(cards)}</div>' if len(cards) == 2 else cards[0]
    return Section(id=key, title=title, body=body, rank=30, short="Curves")


def loss_figure(run: Run, findings: Sequence[Finding], key: str) -> Figure | None:
    """Batch losses (faint), their running mean, and the validation loss; further views where recorded."""
    train, valid = run.history.series("train_loss"), run.history.series("valid_loss")
    if not len(train.steps) and not len(valid.steps):
        return None
    objective = facts.objective_name(run)
    drawn = valid if not facts.valid_apart(run) else run.history.series("")
    log = spans_decades([train.values, drawn.values])
    traces = [*_train_traces(train, log), *_valid_traces(drawn), *_lowest(run, drawn), *_cut(run, train)]
    traces += _guess(run, "loss", traces)
    layout = _layout(f"loss ({objective})" if objective else "loss", traces, log=log)
    layout |= marks(findings, facts.steps(run))
    choices = [Choice(name="loss", traces=traces, layout=layout, caption=_loss_words(run, train, valid))]
    choices += _further(run, findings)
    return Figure(id=f"{key}-loss", title="Loss", choices=choices, height=340)


def metric_figure(run: Run, key: str) -> Figure | None:
    """The metric on validation data (else none), with the goal; None where the loss stands for it."""
    name, series = facts.metric_name(run), run.history.series("valid_metric")
    if name == "loss" or not len(series.steps):
        return None
    traces: list[Trace] = [_line(series, f"valid {name}", "@valid", markers=len(series.steps) < 60)]
    for place, (column, title) in enumerate(facts.by_task(run).items()):
        own = run.history.series(f"valid_{column}")
        if len(own.steps):
            traces.append(_line(own, f"valid {title}", f"@s{2 + place % 5}"))
    layout = _layout(name, traces, log=False)
    goal = facts.described(run).get("goal")
    if isinstance(goal, (int, float)):
        layout["shapes"] = [_level(float(goal), "@good")]
        layout["annotations"] = [_level_note(float(goal), f"goal {numeral(goal)}", "@good")]
    if (
        name.removeprefix("mean ") in _SHARES
        and np.isfinite(series.values).any()
        and np.nanmax(series.values) > 0.5
    ):
        layout["yaxis"] = {**layout["yaxis"], "range": [0, 1.03]}
    best = _best(series, lower=facts.described(run).get("metric_goal") == "min")
    traces += [*_ring(series, best, f"best {name}"), *_guess(run, "valid_metric", traces)]
    words = (
        f"Validation {name} goes from {numeral(series.values[0])} at step {series.steps[0]} to "
        f"{numeral(series.values[-1])} at step {series.steps[-1]}"
    )
    words += "." if best is None else f"; best {numeral(series.values[best])} at step {series.steps[best]}."
    choice = Choice(name=name, traces=traces, layout=layout, caption=words)
    return Figure(id=f"{key}-metric", title=f"Validation {name}", choices=[choice], height=340)


def overlay(before: Run, after: Run, key: str) -> Figure | None:
    """The validation metric (or loss) of two runs in one picture; None where one of them has none."""
    name = facts.metric_name(before)
    column = "valid_loss" if name == "loss" else "valid_metric"
    a, b = before.history.series(column), after.history.series(column)
    if not len(a.steps) or not len(b.steps):
        return None
    traces = [
        _line(a, "as it was", "@muted", markers=len(a.steps) < 60),
        _line(b, "after the repair", "@accent", markers=len(b.steps) < 60),
    ]
    traces[0]["line"] = {"color": "@muted", "width": 2, "dash": "dot"}
    layout = _layout(name, traces, log=None if name == "loss" else False)
    words = (
        f"As it was, validation {name} ends at {numeral(a.values[-1])} after {a.steps[-1]} steps; "
        f"after the repair at {numeral(b.values[-1])} after {b.steps[-1]} steps."
    )
    choice = Choice(name=name, traces=traces, layout=layout, caption=words)
    return Figure(id=key, title=f"Before and after: validation {name}", choices=[choice], height=300)


def _further(run: Run, findings: Sequence[Finding]) -> list[Choice]:
    more: list[Choice] = []
    norms = run.history.series("grad_norm")
    if len(norms.steps) > 1:
        line = _line(norms, "gradient norm", "@accent", markers=len(norms.steps) < 60)
        words = (
            f"Norm of the gradient at {len(norms.steps)} probed steps: first {numeral(norms.values[0])}, "
            f"last {numeral(norms.values[-1])}, largest {numeral(_largest(norms.values))}."
        )
        layout = _layout("gradient norm", [line]) | marks(findings, facts.steps(run))
        more.append(Choice(name="gradient", traces=[line], layout=layout, caption=words))
    rates = run.history.series("lr")
    if len(rates.steps) > 1 and np.ptp(rates.values[np.isfinite(rates.values)]) > 0:
        line = _line(thinned(rates), "learning rate", "@accent")
        words = f"Learning rate from {numeral(rates.values[0])} to {numeral(rates.values[-1])}."
        layout = _layout("learning rate", [line])
        more.append(Choice(name="learning rate", traces=[line], layout=layout, caption=words))
    return more + _by_depth(run)


def _by_depth(run: Run) -> list[Choice]:
    """The rate of each depth of the model, the last the strongest; nothing where all have one."""
    names = [name for name in run.history if name.startswith("lr/")]
    if len(names) < 2 or not len(run.history.series(names[0]).steps):
        return []
    traces: list[Trace] = []
    for place, name in enumerate(names):
        trace = _line(run.history.series(name), name.removeprefix("lr/"), "@accent", markers=True)
        traces.append(trace | {"opacity": 0.25 + 0.75 * place / (len(names) - 1)})
    first, last = (run.history.series(name).values[-1] for name in (names[0], names[-1]))
    words = (
        f"Learning rate at the end of each epoch by depth, 0 for what is not trained yet; in the last "
        f"{numeral(first)} next to the input and {numeral(last)} at the output."
    )
    layout = _layout("learning rate", traces, log=False)
    return [Choice(name="rate by depth", traces=traces, layout=layout, caption=words)]


def _train_traces(train: Series, log: bool) -> list[Trace]:
    if not len(train.steps):
        return []
    if len(train.steps) < 30:
        return [_line(train, "train, each batch", "@accent", markers=True)]
    raw = _line(thinned(train), "train, each batch", "@faint") | {"hoverinfo": "skip"}
    raw["line"] = {"color": "@faint", "width": 1}
    raw["opacity"] = 0.75
    window = max(5, len(train.steps) // 40)
    # On a logarithmic axis the mean of the logarithms: one spike would lift a whole window to its height.
    values = np.exp(smoothed(np.log(train.values), window)) if log else smoothed(train.values, window)
    return [raw, _line(thinned(Series(train.steps, values)), "train, running mean", "@accent")]


def _valid_traces(valid: Series) -> list[Trace]:
    return [_line(valid, "validation", "@valid", markers=len(valid.steps) < 60)] if len(valid.steps) else []


def _best(series: Series, *, lower: bool) -> int | None:
    """Index of the best finite value; None where there is none."""
    good = np.isfinite(series.values)
    if not good.any():
        return None
    return int(np.nanargmin(series.values) if lower else np.nanargmax(np.where(good, series.values, -np.inf)))


def _ring(series: Series, index: int | None, name: str) -> list[Trace]:
    """A ring around one point of a curve; none where the curve has a single point."""
    if index is None or len(series.steps) < 2:
        return []
    ring: Trace = {
        "type": "scatter", "mode": "markers", "name": name, "x": [int(series.steps[index])],
        "y": [float(series.values[index])], "hoverinfo": "skip",
        "marker": {
            "symbol": "circle-open", "size": 13, "color": "@ink", "line": {"color": "@ink", "width": 2},
        },
    }  # fmt: skip
    return [ring]


def _lowest(run: Run, valid: Series) -> list[Trace]:
    """A ring at the lowest validation loss, or the highest of what is maximised."""
    return _ring(valid, _best(valid, lower=not run.maximize), "best validation")


def _guess(run: Run, column: str, traces: Sequence[Trace]) -> list[Trace]:
    """The level of the best constant prediction, the least that a model must beat; none where unknown."""
    table = run.facts.get("constant")
    level = cast("Mapping[str, Any]", table).get(column) if isinstance(table, Mapping) else None
    last = max((int(each["x"][-1]) for each in traces if len(each["x"])), default=0)
    if not isinstance(level, (int, float)) or not math.isfinite(level) or not last:
        return []
    if column == "loss" and level > 3 * _largest(np.concatenate([np.asarray(each["y"]) for each in traces])):
        return []  # so far above the curves that it would press them flat
    line: Trace = {
        "type": "scatter", "mode": "lines", "name": "constant guess", "x": [0, last], "y": [level, level],
        "line": {"color": "@muted", "width": 1.5, "dash": "dash"}, "hovertemplate": "%{y:.4g}",
    }  # fmt: skip
    return [line]


def _cut(run: Run, train: Series) -> list[Trace]:
    """A cross at the last finite loss of a run that left the finite numbers."""
    good = np.flatnonzero(np.isfinite(train.values))
    broken = run.status == "diverged" or len(good) < len(train.values)
    if not broken or not len(good):
        return []
    last = int(good[-1])
    mark: Trace = {
        "type": "scatter", "mode": "markers", "name": "last finite loss", "x": [int(train.steps[last])],
        "y": [float(train.values[last])], "marker": {"symbol": "x", "size": 11, "color": "@bad"},
    }  # fmt: skip
    return [mark]


def _line(series: Series, name: str, colour: str, *, markers: bool = False) -> Trace:
    return {
        "type": "scatter", "mode": "lines+markers" if markers else "lines", "name": name,
        "x": series.steps, "y": series.values, "line": {"color": colour, "width": 2},
        "marker": {"color": colour, "size": 5}, "hovertemplate": "%{y:.4g}",
    }  # fmt: skip


def _layout(title: str, traces: Sequence[Trace], *, log: bool | None = None) -> dict[str, Any]:
    if log is None:
        log = spans_decades([np.asarray(each["y"], dtype=float) for each in traces])
    values = np.concatenate([np.asarray(each["y"], dtype=float).ravel() for each in traces])
    last = max((int(each["x"][-1]) for each in traces if len(each["x"])), default=11)
    return {
        "xaxis": by_step(last),
        "yaxis": {
            "title": {"text": title, "standoff": 8},
            **(log_axis(values) if log else {"rangemode": "tozero"}),
        },
    }


def spans_decades(columns: Sequence[Floats], factor: float = 10.0) -> bool:
    """Whether positive values span more than `factor`, so that a logarithmic axis shows more."""
    values = np.concatenate([each.ravel() for each in columns]) if columns else np.empty(0)
    values = values[np.isfinite(values)]
    return bool(len(values)) and bool(values.min() > 0) and bool(values.max() / values.min() > factor)


def marks(findings: Sequence[Finding], last: int = 0) -> dict[str, Any]:
    """Vertical marks where findings begin; those of one step share a mark.

    Args:
        findings: With their consequences.
        last: The last step, so that a label near the right edge stands to the left of its mark.
    """
    starts: dict[int, list[str]] = {}
    for finding in findings:
        for each in (finding, *finding.consequences):
            if each.where.steps is not None:
                starts.setdefault(each.where.steps[0], []).append(each.symptom)
    shapes: list[Trace] = []
    notes: list[Trace] = []
    for row, (step, symptoms) in enumerate(sorted(starts.items())):
        label = ", ".join(dict.fromkeys(symptoms))
        shape, note = vertical(step, label, "@bad", row, left=last > 0 and step > 0.6 * last)
        shapes.append(shape)
        notes.append(note)
    return {"shapes": shapes, "annotations": notes}


def _level(value: float, colour: str) -> Trace:
    line = {"color": colour, "width": 1.4, "dash": "dash"}
    return {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": value, "y1": value, "line": line}


def _level_note(value: float, label: str, colour: str) -> Trace:
    return {
        "xref": "paper", "x": 0.01, "y": value, "text": label, "showarrow": False, "xanchor": "left",
        "yanchor": "top", "font": {"color": colour, "size": 12},
    }  # fmt: skip


def smoothed(values: Floats, window: int) -> Floats:
    """Mean of up to `window` latest finite values; NaN where there is none. Shape (k,)."""
    good = np.isfinite(values)
    sums = np.concatenate([[0.0], np.cumsum(np.where(good, values, 0.0))])
    counts = np.concatenate([[0.0], np.cumsum(good)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = (sums[ends] - sums[starts]) / (counts[ends] - counts[starts])
    return np.where(good, mean, np.nan)


def thinned(series: Series, points: int = POINTS) -> Series:
    """The series with at most about `points` points: smallest and largest of each part, first and last."""
    size = len(series.steps)
    if size <= points:
        return series
    edges = np.linspace(0, size, points // 2 + 1).astype(np.int64)
    kept: set[int] = {0, size - 1}
    for start, stop in pairwise(edges.tolist()):
        part = series.values[start:stop]
        if stop > start and np.isfinite(part).any():
            kept |= {int(start + np.nanargmin(part)), int(start + np.nanargmax(part))}
    index: Ints = np.asarray(sorted(kept), dtype=np.int64)
    return Series(series.steps[index], series.values[index])


def _largest(values: Floats) -> float:
    good = values[np.isfinite(values)]
    return float(good.max()) if len(good) else math.nan


def _loss_words(run: Run, train: Series, valid: Series) -> str:
    parts: list[str] = []
    if len(train.steps):
        parts.append(
            f"Batch loss goes from {numeral(train.values[0])} to {numeral(train.values[-1])} "
            f"at step {int(train.steps[-1])}"
        )
    if len(valid.steps):
        lowest = int(valid.steps[np.nanargmin(valid.values)]) if np.isfinite(valid.values).any() else None
        where = "" if lowest is None else f", lowest at step {lowest}"
        apart = facts.valid_apart(run)
        own = f" (on a scale of its own, not drawn: {apart})" if apart else ""
        parts.append(
            f"validation loss from {numeral(valid.values[0])} to {numeral(valid.values[-1])}{where}{own}"
        )
    ended = facts.status(run)
    return "; ".join(parts) + "." + (f" The run {ended}." if run.status == "diverged" else "")
