"""The ground under a run, drawn: sharpness against the stable limit over steps, the gradient noise scale
beside it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from downslope.core.history import Series
from downslope.core.run import Run
from downslope.reporting.figure import Choice, Figure, Trace, by_step, log_axis
from downslope.reporting.markup import Section
from downslope.reporting.numerals import numeral


def section(run: Run, *, key: str = "ground", title: str = "The ground under the run") -> Section | None:
    """Sharpness and noise as they were tracked; None for a run that tracked nothing.

    Args:
        run: The run.
        key: Anchor, unique on the page.
        title: Heading.
    """
    figures = [each for each in (sharpness_figure(run, key), noise_figure(run, key)) if each is not None]
    if not figures:
        return None
    cards = [f'<div class="card">{each.html()}</div>' for each in figures]
    body = f'<div class="two">{"".join(cards)}</div>' if len(cards) == 2 else cards[0]
    return Section(id=key, title=title, body=body, rank=33, short="Ground")


def sharpness_figure(run: Run, key: str) -> Figure | None:
    """The largest curvature that the method feels, with its residual, and the most that it can stand."""
    sharp, limit = run.history.series("sharpness"), run.history.series("stable_limit")
    if not len(sharp.steps):
        return None
    residual = dict(zip(*map(np.ndarray.tolist, run.history.series("sharpness_residual")), strict=True))
    line = _line(sharp, "sharpness", "@accent")
    line["error_y"] = {
        "type": "data", "array": [residual.get(step, 0.0) for step in sharp.steps.tolist()],
        "color": "@muted", "thickness": 1,
    }  # fmt: skip
    traces = [line]
    if len(limit.steps):
        bound = _line(limit, "stable limit", "@bad")
        bound["line"] = {"color": "@bad", "width": 1.6, "dash": "dash"}
        bound["mode"] = "lines" if len(limit.steps) > 1 else "markers"
        traces.append(bound)
    choice = Choice(name="sharpness", traces=traces, layout=_layout("sharpness", traces), caption=words(run))
    return Figure(id=f"{key}-sharpness", title="Sharpness", choices=[choice], height=320)


def noise_figure(run: Run, key: str) -> Figure | None:
    """The batch size at which noise and signal of the gradient are equal, and the batch size of the run."""
    noise = run.history.series("noise_scale")
    if not len(noise.steps):
        return None
    error = dict(zip(*map(np.ndarray.tolist, run.history.series("noise_scale_error")), strict=True))
    line = _line(noise, "gradient noise scale", "@valid")
    line["error_y"] = {
        "type": "data", "array": [_finite(error.get(step)) for step in noise.steps.tolist()],
        "color": "@muted", "thickness": 1,
    }  # fmt: skip
    traces, said = [line], ""
    size = run.choices.get("batch_size")
    if isinstance(size, int):
        level = Series(noise.steps[[0, -1]], np.asarray([size, size], dtype=np.float64))
        bound = _line(level, "batch size", "@muted")
        bound |= {"mode": "lines", "line": {"color": "@muted", "width": 1.6, "dash": "dash"}}
        traces.append(bound)
        more = "larger ones save steps" if size < noise.values[-1] else "smaller ones cost few more steps"
        said = f" Batches hold {size}: {more}."
    first, last = noise.values[0], noise.values[-1]
    caption = (
        f"Examples at which noise and signal of the gradient are equal: {numeral(first)} at step "
        f"{noise.steps[0]}, {numeral(last)} at step {noise.steps[-1]}; bars are standard errors.{said}"
    )
    choice = Choice(name="noise", traces=traces, layout=_layout("examples", traces), caption=caption)
    return Figure(id=f"{key}-noise", title="Gradient noise scale", choices=[choice], height=320)


def words(run: Run) -> str:
    """What the sharpness did, in one line; empty for a run that tracked none."""
    sharp, ratio = run.history.series("sharpness"), run.history.series("stability_ratio")
    if not len(sharp.steps):
        return ""
    last = len(sharp.steps) - 1
    said = f"Sharpness {numeral(sharp.values[0])} at step {sharp.steps[0]}"
    if last:
        said += f", {numeral(sharp.values[last])} at step {sharp.steps[last]}"
    if len(ratio.steps):
        most = int(np.argmax(ratio.values))
        said += f"; {numeral(ratio.values[-1])} of the stable limit at the end"
        if ratio.values[most] > 1.05 * ratio.values[-1]:
            said += f", {numeral(ratio.values[most])} of it at step {ratio.steps[most]}"
    notes: list[str] = run.facts.get("terrain", {}).get("notes", [])
    return ". ".join([said, *(each[0].upper() + each[1:] for each in notes)]) + "."


def _line(series: Series, name: str, colour: str) -> Trace:
    return {
        "type": "scatter", "mode": "lines+markers" if len(series.steps) < 100 else "lines", "name": name,
        "x": series.steps, "y": series.values, "line": {"color": colour, "width": 2},
        "marker": {"color": colour, "size": 5}, "hovertemplate": "%{y:.4g}",
    }  # fmt: skip


def _layout(title: str, traces: list[Trace]) -> dict[str, Any]:
    values = np.concatenate([np.asarray(each["y"], dtype=float) for each in traces])
    last = max(int(each["x"][-1]) for each in traces)
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    wide = low > 0 and high / low > 10
    axis = log_axis(values) if wide else {"rangemode": "tozero"}
    return {"xaxis": by_step(max(last, 1)), "yaxis": {"title": {"text": title, "standoff": 8}, **axis}}


def _finite(value: float | None) -> float:
    return value if value is not None and math.isfinite(value) else 0.0
