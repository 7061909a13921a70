"""The proof of a repair: every remedy beside the control from the same seeds, and what was kept."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from downslope.core.edits import SetRecipe
from downslope.core.errors import RecipeError
from downslope.core.numerals import many
from downslope.core.run import Run
from downslope.reporting import curves, facts
from downslope.reporting.figure import Choice, Figure, Trace
from downslope.reporting.markup import Section, edited, empty, table, tag, text
from downslope.reporting.numerals import duration, numeral
from downslope.reporting.settings import code

if TYPE_CHECKING:
    from downslope.diagnosis.repair import Repair, Trial

_KINDS = {"kept": "good", "works, not kept": "info", "not confirmed": "", "worse": "warn", "failed": "bad"}


def section(repaired: Repair, after: Run | None = None, *, key: str = "proof") -> Section:
    """The trials of a repair, the kept edit, and the file that repeats it.

    Args:
        repaired: The repair.
        after: A run with what was kept, to be drawn over the one that failed.
        key: Anchor, unique on the page.
    """
    if repaired.idle:
        body, lead = (
            f'<div class="card">{empty("Nothing was found that a remedy could be tried for.")}</div>',
            "",
        )
    else:
        over = None if after is None else curves.overlay(repaired.diagnosis.run, after, f"{key}-over")
        picture = over.html() if over is not None else ""
        parts = [
            _picture(repaired, key) + _trials(repaired),
            picture,
            _kept(repaired, key),
            _unproved(repaired),
        ]
        body = "".join(f'<div class="card">{part}</div>' for part in parts if part)
        same = "; control and remedy start from the same seeds." if repaired.trials else "."
        lead = setting(repaired) + same
    return Section(id=key, title="Proof of the remedy", body=body, lead=lead, rank=15, short="Proof")


def setting(repaired: Repair) -> str:
    """How the proof was made, in one sentence."""
    if not repaired.trials:
        return "No remedy was put to the proof"
    seconds = repaired.seconds - repaired.diagnosis.seconds
    return (
        f"{many(len(repaired.trials), 'remedy')} x {many(len(repaired.seeds), 'seed')} "
        f"beside the unchanged recipe, {duration(seconds)}, by {measure(repaired)}"
    )


def sentence(repaired: Repair) -> str:
    """What the repair says, for the banner; "" for a healthy run."""
    if repaired.idle:
        return ""
    if repaired.kept is None or repaired.before is None or repaired.after is None:
        return "No remedy was proved." if repaired.trials else "No remedy could be tried."
    return (
        f"Proved: {_arrowed(repaired.kept)}. {capital(measure(repaired))} "
        f"{facts.fixed(repaired.before)} \u2192 {facts.fixed(repaired.after)}, "
        f"mean of {many(_pairs(repaired), 'seed')}."
    )


def _pairs(repaired: Repair) -> int:
    """Seeds that prove what is kept."""
    kept = [len(each.after) for each in repaired.trials if each.verdict == "kept"]
    return kept[0] if kept else len(repaired.seeds)


def words(repaired: Repair) -> dict[str, str]:
    """What became of each remedy, by its words."""
    return {str(trial.edit): trial.verdict for trial in repaired.trials}


def measure(repaired: Repair) -> str:
    """What was scored: "validation accuracy"."""
    said = repaired.measure.removeprefix("last ")
    part, _, kind = said.partition(" ")
    name = facts.metric_name(repaired.diagnosis.run) if kind == "metric" else kind
    last = "last " if said != repaired.measure else ""
    return f"{last}{'validation' if part == 'valid' else 'training'} {name}"


def higher_is_better(repaired: Repair) -> bool:
    """Which way the score is better."""
    problem = repaired.problem
    return problem.direction == "max" if repaired.measure.endswith("metric") else problem.maximize


def gained(trial: Trial, higher: bool) -> tuple[str, str]:
    """The paired difference and its 95 % interval, in words; "" where there is none."""
    gain = trial.gain
    if math.isnan(gain.mean):
        return "", ""
    sign, way = ("+", "better") if gain.mean >= 0 else ("-", "worse")
    mean = f"{sign}{facts.fixed(abs(gain.mean))}" if higher else f"{way} by {numeral(abs(gain.mean))}"
    ends = (gain.low, gain.high) if higher or gain.mean >= 0 else (-gain.high, -gain.low)
    low, high = (facts.fixed(each) if higher else numeral(each) for each in ends)
    interval = "" if math.isnan(gain.low) else f"95 % {low} to {high}"
    return mean, interval


def fixed_toml(repaired: Repair) -> str:
    """What `Repair.save` writes, or why no file can hold it."""
    import tempfile
    from pathlib import Path

    try:
        with tempfile.TemporaryDirectory() as folder:
            return repaired.write(Path(folder) / "fixed.toml").read_text(encoding="utf-8")
    except RecipeError as error:
        return f"# {error}"


# -- picture ----------------------------------------------------------------------------------------------


def _picture(repaired: Repair, key: str) -> str:
    trials = [each for each in repaired.trials if each.after]
    if not trials:
        return ""
    names = [_short(_arrowed(each.edit)) for each in trials]
    traces: list[Trace] = []
    trials = [_within(each, repaired) for each in trials]
    traces += [_joins(each, name) for each, name in zip(trials, names, strict=True)]
    traces.append(_dots(trials, names, after=False))
    traces.append(_dots(trials, names, after=True))
    layout: dict[str, Any] = {
        "xaxis": {"title": {"text": measure(repaired), "standoff": 6}},
        "yaxis": {"type": "category", "range": [len(trials) - 0.5, -0.5]},
        "hovermode": "closest",
        "margin": {"l": 20, "r": 20},
    }
    if higher_is_better(repaired) and max(max(each.after) for each in trials) <= 1:
        layout["xaxis"]["range"] = [-0.02, 1.02]
    caption = "Each line is a seed, from its result with the unchanged recipe to that with the remedy."
    choice = Choice(name="scores", traces=traces, layout=layout, caption=caption)
    height = 110 + 40 * len(trials)
    title = f"Before and after, each seed: {measure(repaired)}"
    return Figure(id=f"{key}-seeds", title=title, choices=[choice], height=height).html()


def _within(trial: Trial, repaired: Repair) -> Trial:
    """The trial with its scores as they count, so that a lost run does not squeeze all others together."""
    if repaired.floor is None:
        return trial
    pick, floor = (max if higher_is_better(repaired) else min), repaired.floor
    before, after = (tuple(pick(each, floor) for each in values) for values in (trial.before, trial.after))
    return replace(trial, before=before, after=after)


def _joins(trial: Trial, name: str) -> Trace:
    xs: list[float | None] = []
    for before, after in zip(trial.before, trial.after, strict=True):
        xs += [before, after, None]
    return {
        "type": "scatter", "mode": "lines", "x": xs, "y": [name] * len(xs), "showlegend": False,
        "line": {"color": "@faint", "width": 1.5}, "hoverinfo": "skip",
    }  # fmt: skip


def _dots(trials: Sequence[Trial], names: Sequence[str], *, after: bool) -> Trace:
    xs = [value for each in trials for value in (each.after if after else each.before)]
    ys = [name for each, name in zip(trials, names, strict=True) for _ in each.after]
    told = [f"seed {seed}" for each in trials for seed in each.seeds or range(len(each.after))]
    colour = "@accent" if after else "@muted"
    return {
        "type": "scatter", "mode": "markers", "name": "with the remedy" if after else "unchanged recipe",
        "x": xs, "y": ys, "text": told, "hovertemplate": "%{text}: %{x:.4g}<extra>%{fullData.name}</extra>",
        "marker": {
            "color": colour, "size": 11, "opacity": 0.85, "symbol": "circle" if after else "circle-open",
            "line": {"color": colour, "width": 2},
        },
    }  # fmt: skip


# -- words ------------------------------------------------------------------------------------------------


def _trials(repaired: Repair) -> str:
    if not repaired.trials:
        return empty("; ".join(repaired.notes) or "No remedy could be tried.")
    higher = higher_is_better(repaired)
    rows: list[list[str]] = []
    for trial in repaired.trials:
        mean, interval = gained(trial, higher)
        before, after = (facts.fixed(average(each)) if each else "" for each in (trial.before, trial.after))
        word = tag(trial.verdict, _KINDS.get(trial.verdict, ""))
        reason = f' <span class="muted">{text(trial.reason)}</span>' if trial.reason else ""
        inside = f" <small>{text(interval)}</small>" if interval else ""
        difference = f"<span>{text(mean)}{inside}</span>" if mean else ""
        rows.append([edited(trial.edit), before, after, difference, word + reason])
    head = ("remedy", "before", "after", "paired difference", "verdict")
    kept = {i: "kept" for i, each in enumerate(repaired.trials) if each.verdict == "kept"}
    counted = f'<p class="muted">{text(repaired.counted)}</p>' if repaired.counted else ""
    return table(head, rows, numeric=(1, 2, 3), marked=kept) + counted


def _kept(repaired: Repair, key: str) -> str:
    if repaired.kept is None:
        return empty("Nothing won for certain, so nothing is changed.") if repaired.trials else ""
    diff = f"<h3>What changes</h3><pre>{_diff(repaired)}</pre>"
    return diff + code(f"{key}-toml", fixed_toml(repaired), "fixed.toml")


def _diff(repaired: Repair) -> str:
    """Recipe keys as removed and added lines, other edits as added ones."""
    lines: list[str] = []
    for edit in repaired.edits:
        if isinstance(edit, SetRecipe):
            for key, value in edit.changes.items():
                if key in edit.before:
                    lines.append(f'<span class="minus">- {text(key)} = {text(edit.before[key])}</span>')
                lines.append(f'<span class="plus">+ {text(key)} = {text(value)}</span>')
        else:
            lines.append(f'<span class="plus">+ {text(edit.entity)}: {text(edit)}</span>')
    code_rows = [row.strip() for row in repaired.diff.splitlines() if row.strip().startswith("in code")]
    return "\n".join([*lines, *(f'<span class="plus">  {text(row)}</span>' for row in code_rows)])


def _unproved(repaired: Repair) -> str:
    rows = [f"<li>{edited(each)} {tag('by hand, unproved')}</li>" for each in repaired.advice]
    rows += [f'<li class="muted">{text(each)}</li>' for each in repaired.notes]
    return f"<h3>Besides</h3><ul>{''.join(rows)}</ul>" if rows else ""


def average(values: Sequence[float]) -> float:
    """Mean; NaN of none."""
    return sum(values) / len(values) if values else math.nan


def capital(words_: str) -> str:
    """With a capital letter."""
    return words_[:1].upper() + words_[1:]


def _arrowed(edit: object) -> str:
    return str(edit).replace("->", "\u2192")


def _short(words_: str, most: int = 44) -> str:
    return words_ if len(words_) <= most else words_[: most - 1].rstrip() + "\u2026"
