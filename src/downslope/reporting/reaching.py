"""How far back a recurrence reaches, and what a step changes, as sections of the page."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from downslope.core.numerals import numeral
from downslope.reporting.figure import Choice, Figure, Trace
from downslope.reporting.markup import Section, table, text
from downslope.terrain.expansion import Expansion
from downslope.terrain.recurrence.lags import Lags, shown


def lags_section(found: Lags, key: str) -> Section:
    """Singular values by lag, the directions that are left, and what the output owes to each step.

    Args:
        found: What was measured.
        key: Unique on the page.
    """
    lags = list(found.lags)
    # From the right: a lag is counted back from the last step.
    owed = found.profile.flip(0)
    words = _words(found)
    views = [
        _view("largest", "singular value", lags, _numbers(found.largest), words),
        _view("directions", "that still count", lags, _numbers(found.directions), words),
        _view("output by input", "in the largest", list(range(len(owed))), _numbers(owed), words),
    ]
    figure = Figure(id=f"{key}-figure", title="What is left of a state, by lag", choices=views, height=320)
    head = ["lag", "largest singular value", "directions", "output by input"]
    rows = [
        [str(found.lags[i]), numeral(float(found.largest[i])), numeral(float(found.directions[i]), 2),
         numeral(float(owed[found.lags[i]]))]
        for i in shown(found.lags)
    ]  # fmt: skip
    told = [f"{text(name)} {numeral(value)}" for name, value in found.radius.items()]
    said = [f"spectral radius: {', '.join(told)}"] if told else []
    notes = "".join(f"<p>{each}</p>" for each in [*said, *(text(note) for note in found.notes)])
    body = f'<div class="card">{figure.html()}{table(head, rows, numeric=(0, 1, 2, 3))}{notes}</div>'
    lead = (
        "What a gradient from the last step is multiplied by on its way back. Where it shrinks by a constant "
        "factor a step, nothing can be learnt from far back; where it grows, gradients explode."
    )
    title = f"How far back {found.module} reaches"
    return Section(id=key, title=title, body=body, lead=lead, rank=46, short="Lags")


def expansion_section(found: Expansion, key: str) -> Section:
    """The foretold and the measured change of the loss, by rate.

    Args:
        found: What was measured.
        key: Unique on the page.
    """
    steps = sorted(found.steps, key=lambda each: each.lr)
    rates = [each.lr for each in steps]
    traces: list[Trace] = [
        _line("foretold", rates, [each.predicted for each in steps], "@muted"),
        _line("happened", rates, [each.actual for each in steps], "@accent"),
    ]
    head, rows = (
        ["lr", "foretold", "happened"],
        [[numeral(each.lr), numeral(each.predicted), numeral(each.actual)] for each in steps],
    )
    words = f"loss {numeral(found.loss)}; by the expansion steps up to {numeral(found.limit)} lower it"
    layout: dict[str, Any] = {
        "xaxis": {"title": {"text": "lr"}}, "yaxis": {"title": {"text": "change of the loss", "standoff": 8}},
    }  # fmt: skip
    choice = Choice(name="by rate", traces=traces, layout=layout, caption=words)
    figure = Figure(id=f"{key}-figure", title="What a step changes", choices=[choice], height=300)
    notes = "".join(f"<p>{text(each)}</p>" for each in found.notes)
    body = f'<div class="card">{figure.html()}{table(head, rows, numeric=(0, 1, 2))}{notes}</div>'
    lead = "The slope lowers the loss, the curvature along it raises it: foretold, and measured."
    return Section(id=key, title="What a step changes", body=body, lead=lead, rank=47, short="A step")


def _view(name: str, unit: str, x: list[int], y: list[float], words: str) -> Choice:
    layout: dict[str, Any] = {
        "xaxis": {"title": {"text": "lag"}},
        "yaxis": {"title": {"text": unit, "standoff": 8}, "type": "log", "exponentformat": "power"},
    }
    return Choice(name=name, traces=[_line(name, x, y, "@accent")], layout=layout, caption=words)


def _line(name: str, x: list[Any], y: list[float], colour: str) -> Trace:
    return {
        "type": "scatter", "mode": "lines+markers", "name": name, "x": x, "y": y,
        "line": {"color": colour, "width": 2}, "marker": {"color": colour, "size": 5},
    }  # fmt: skip


def _numbers(values: Tensor) -> list[float]:
    return [float(each) for each in values]


def _words(found: Lags) -> str:
    far = found.reach()
    end = f"a thousandth is left up to lag {far}" if far < found.lags[-1] else "no lag is out of reach"
    return f"{found.kind}, {found.steps} steps: a factor of {numeral(found.rate)} a step; {end}."
