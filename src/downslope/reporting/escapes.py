"""Who left a saddle or a minimum, on a page: a table with intervals, and the share that left by step."""

from __future__ import annotations

import math

import numpy as np

from downslope.reporting.figure import Choice, Figure, Trace
from downslope.reporting.hues import COLOURS, DASHES
from downslope.reporting.markup import Section, table, text
from downslope.terrain.escapes.trials import Escapes, Trial


def section(found: Escapes, key: str = "escape") -> Section:
    """The part of a page.

    Args:
        found: What was measured.
        key: Anchor, unique on the page.
    """
    labels = [found.label(each) for each in found]
    traces = [_curve(each, label, i) for i, (each, label) in enumerate(zip(found, labels, strict=True))]
    layout = {
        "xaxis": {"title": {"text": "step"}, "rangemode": "tozero"},
        "yaxis": {"title": {"text": "share that left"}, "range": [-0.02, 1.03]},
    }
    words = "; ".join(
        f"{label}: {each.escaped} of {each.seeds}, median step {_step(each, each.median)}"
        for each, label in zip(found, labels, strict=True)
    )
    choice = Choice(name="share that left", traces=traces, layout=layout, caption=f"{words}.")
    figure = Figure(id=f"{key}-left", title="Share that left, by step", choices=[choice], height=340)
    head = ("method", "lr", "batch", "left", "probability, 95 %", "median step", "quartiles")
    rows = [_row(each) for each in found]
    cards = (table(head, rows, numeric=(1, 2, 3, 5)), figure.html())
    body = "".join(f'<div class="card">{each}</div>' for each in cards)
    lead = (
        f"{found.site.name}: eigenvalues {found.lowest:.3g} to {found.highest:.3g}. "
        f"Inside is {found.site.region}; starts are spread by {found.spread:g}."
        + "".join(f" {each[:1].upper()}{each[1:]}." for each in found.notes)
    )
    return Section(id=key, title="Who leaves", lead=lead, body=body, rank=30, short="Escape")


def _row(trial: Trial) -> list[str]:
    low, high = trial.interval
    first, last = trial.quartiles
    return [
        text(trial.method), f"{trial.lr:g}", f"{trial.batch_size}", f"{trial.escaped}/{trial.seeds}",
        f"{trial.probability:.2f} ({low:.2f} to {high:.2f})", text(_step(trial, trial.median)),
        text(f"{_step(trial, first)} to {_step(trial, last)}"),
    ]  # fmt: skip


def _step(trial: Trial, value: float) -> str:
    return f"{value:.0f}" if math.isfinite(value) else f"> {trial.budget}"


def _curve(trial: Trial, label: str, place: int) -> Trace:
    gone = np.sort(trial.left[np.isfinite(trial.left)])
    shares = np.arange(len(gone) + 1) / trial.seeds
    return {
        "type": "scatter", "mode": "lines", "name": label,
        "line": {"color": COLOURS[place % 8], "dash": DASHES[place % 8], "shape": "hv"},
        "x": [0.0, *gone, float(trial.budget)], "y": [*shares, shares[-1]],
    }  # fmt: skip
