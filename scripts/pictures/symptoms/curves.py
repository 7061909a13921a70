"""What the pictures of all symptoms share: the curves of the fault and of its twin, bars beside a limit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from downslope.core import batches
from downslope.core.run import Run
from downslope.diagnosis.diagnosis import Diagnosis
from scripts.pictures.style import BLUE, GREY, RED

SICK, WELL = RED, BLUE
_MOST = 120
"""Points of a curve, so that a picture stays small."""


class Pair(NamedTuple):
    """What the code of a page made."""

    sick: Diagnosis
    well: Diagnosis
    made: Mapping[str, Any]

    @property
    def runs(self) -> tuple[tuple[Run, str, str], ...]:
        """Both runs with their colours and names."""
        return (self.sick.run, SICK, "fault"), (self.well.run, WELL, "healthy twin")

    def facts(self, name: str) -> tuple[Any, Any]:
        """One measurement of both; empty where it was not made."""
        return self.sick.run.facts.get(name) or {}, self.well.run.facts.get(name) or {}

    def finding(self, symptom: str) -> Any:
        """The finding of this id, wherever it stands."""
        findings = [each for root in self.sick.findings for each in (root, *root.consequences)]
        return next(each for each in findings if each.symptom == symptom)


def examples(source: Any, problem: Any) -> tuple[Any, Any]:
    """Inputs and targets of a whole source of data."""
    (x, *_), _, y = problem.splitter(batches.join(list(source.stored(64))))
    return x, y


def curves(axis: Any, pair: Pair, column: str = "") -> None:
    """The scores of both over the steps: of validation where there are some, else the loss."""
    name = column or _column(pair)
    for run, colour, label in pair.runs:
        steps, values = thinned(run, name)
        if len(steps):
            shape = {"marker": "o", "ms": 3} if len(steps) < 30 else {}
            axis.plot(steps, values, color=colour, label=label, **shape)
        else:
            axis.plot([], [], color=colour, label=f"{label}: no step was taken")
    key = "valid_metric" if name == "valid_metric" else "loss"
    guesses = [(run.facts.get("constant") or {}).get(key) for run, _, _ in pair.runs]
    known = [each for each in (guesses if key == "valid_metric" else guesses[1:]) if each is not None]
    guess = max(known, default=None)  # of weighted classes a constant that gives up the common one
    if guess is not None:
        axis.axhline(guess, color=GREY, lw=1.0, ls=":", label="a constant guess")
    metric = getattr(pair.well.run, "metric_name", None) or "metric"
    said = {
        "valid_metric": f"validation {metric}",
        "train_loss": "loss of the batch",
        "valid_loss": "validation loss",
    }
    if name == "train_loss" and axis.get_ylim()[1] > 50:
        axis.set_yscale("log")
    axis.set(title="What you see", xlabel="step", ylabel=said.get(name, name))
    legend(axis)


def _column(pair: Pair) -> str:
    both = all(len(run.history.series("valid_metric").steps) > 2 for run, _, _ in pair.runs)
    return "valid_metric" if both else "train_loss"


def thinned(run: Run, column: str) -> tuple[Any, Any]:
    """At most 120 points of a column of the history, those that are finite."""
    series = run.history.series(column)
    keep = np.isfinite(series.values)
    steps, values = series.steps[keep], series.values[keep]
    every = max(1, -(-len(steps) // _MOST))
    return steps[::every], values[::every]


def bars(
    axis: Any, values: Sequence[float], limit: float, *, what: str, log: bool = False, over: str = "",
    labels: Sequence[str] = ("fault", "healthy twin"), floor: float | None = None,
) -> None:  # fmt: skip
    """Two numbers as bars, and the limit between them."""
    shown = [max(value, floor) if floor is not None else value for value in values]
    base = (min(*shown, limit) / 3) if log else 0.0
    axis.barh([1, 0], np.array(shown) - base, left=base, height=0.5, color=[SICK, WELL])
    for at, (value, place) in enumerate(zip(values, shown, strict=True)):
        said = f"{value:.2g}" if abs(value) < 1e4 else f"{value:.1e}"
        axis.annotate(
            said, (place, 1 - at), xytext=(4, 0), textcoords="offset points", va="center", fontsize=9
        )
    axis.axvline(limit, color="#30343b", lw=1.1, ls="--")
    axis.annotate(
        over or f"limit {limit:g}", (limit, 1.62), xytext=(3, 0), textcoords="offset points", fontsize=8.5,
        va="center",
    )  # fmt: skip
    if log:
        axis.set_xscale("log")
        axis.set_xlim(base, max(*shown, limit) * 8)
    else:
        low = min(0.0, *shown)
        axis.set_xlim(1.15 * low, 1.25 * max(*shown, limit))
    axis.set(title="How we know", yticks=[1, 0], ylim=(-0.5, 1.8), xlabel=what)
    axis.set_yticklabels(labels)
    axis.grid(visible=False, axis="y")


def level(axis: Any, value: float, text: str, *, at: float = 0.99) -> None:
    """A horizontal limit with its name, its text centred about the share `at` of the width."""
    axis.axhline(value, color="#30343b", lw=1.1, ls="--")
    side = "left" if at < 0.3 else "right" if at > 0.7 else "center"
    box = {"facecolor": "#fbfbfd", "edgecolor": "none", "alpha": 0.85, "pad": 0.6}
    axis.annotate(
        text, (at, value), xycoords=axis.get_yaxis_transform(), xytext=(0, 2.5), textcoords="offset points",
        ha=side, va="bottom", fontsize=8.5, color="#30343b", bbox=box,
    )  # fmt: skip


def legend(axis: Any, place: Any = "best", **options: Any) -> None:
    """A legend that covers what lies under it."""
    axis.legend(loc=place, frameon=True, facecolor="#fbfbfd", edgecolor="none", framealpha=0.85, **options)


def probe(axis: Any, pair: Pair, statistic: str, limit: float, *, what: str, text: str) -> None:
    """A statistic of the worst layer over the steps."""
    for run, colour, label in pair.runs:
        found = run.probes[statistic]
        rows = np.nan_to_num(found.values, nan=0.0)
        worst = int(rows[-max(1, len(rows) // 4) :].min(axis=0).argmax())
        axis.plot(found.steps, rows[:, worst], color=colour, label=label)
    axis.set(title="How we know", xlabel="step", ylabel=what, ylim=(-0.03, 1.05))
    level(axis, limit, text)
    legend(axis, (0.03, 0.3))
