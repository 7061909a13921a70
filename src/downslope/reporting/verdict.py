"""The top of the page: what ran, on what, and in one sentence how it stands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from downslope.core.run import Run
from downslope.reporting import facts
from downslope.reporting.markup import text
from downslope.reporting.numerals import duration, numeral

if TYPE_CHECKING:
    from downslope.diagnosis.diagnosis import Diagnosis

Mood = Literal["good", "warn", "bad", "plain"]

UNEXPLAINED = "No cause was found, yet the run learns nothing"
"""What stands in place of "healthy" over a run that is no better than a constant guess."""

_ICONS: dict[Mood, str] = {
    "good": '<circle cx="12" cy="12" r="10"/><path d="m7.5 12.5 3 3 6-7"/>',
    "warn": '<path d="M12 3 2.5 20.5h19Z"/><path d="M12 10v5m0 2.6v.1"/>',
    "bad": '<circle cx="12" cy="12" r="10"/><path d="m8.5 8.5 7 7m0-7-7 7"/>',
    "plain": '<circle cx="12" cy="12" r="10"/><path d="M12 11v6m0-9.6v.1"/>',
}


def top(run: Run, diagnosis: Diagnosis | None, proof: str = "") -> str:
    """Heading, banner and the numbers that matter, as HTML.

    Args:
        run: The run that the page is about.
        diagnosis: What was found; None where nothing was asked.
        proof: One sentence of a repair, plain text; "" without one.
    """
    sub = [facts.recipe(run), facts.sizes(run), facts.machine(run)]
    lines = "".join(f"<span>{text(each)}</span>" for each in sub if each)
    return (
        f'<div class="top"><h1>{text(facts.name(run))}</h1><div class="sub">{lines}</div>'
        f"{banner(run, diagnosis, proof)}{tiles(run)}</div>"
    )


def banner(run: Run, diagnosis: Diagnosis | None, proof: str) -> str:
    """The verdict in a coloured box: sign and words, not colour alone."""
    mood, head, words = verdict(run, diagnosis)
    lines = "".join(f"<p>{text(each)}</p>" for each in (*words, proof) if each)
    icon = (
        '<svg viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="2" stroke-linecap="round" '
        f'stroke-linejoin="round" aria-hidden="true">{_ICONS[mood]}</svg>'
    )
    said = f"<div><strong>{text(head)}</strong>{lines}</div>"
    return f'<div class="banner {mood}" role="status">{icon}{said}</div>'


def verdict(run: Run, diagnosis: Diagnosis | None) -> tuple[Mood, str, Sequence[str]]:
    """Mood, headline and further sentences."""
    ended = facts.status(run)
    if diagnosis is None:
        bad = run.status in ("diverged", "failed")
        head = sentence(ended) if ended else "Trained; no diagnosis was asked for"
        return ("bad" if bad else "plain"), head, ()
    root = diagnosis.root
    if unexplained(diagnosis):
        return "warn", UNEXPLAINED, (diagnosis.verdict,)
    if root is None and diagnosis.reserve:
        return "warn", sentence(diagnosis.reserve), (diagnosis.verdict,)
    if root is None:
        seen = [each.message or each.title for each in diagnosis.findings]
        return "good", "Healthy, nothing to fix", (diagnosis.verdict, *seen[:2])
    mood: Mood = "bad" if root.severity == "critical" else "warn"
    return mood, sentence(root.title), (root.message, diagnosis.verdict)


def unexplained(diagnosis: Diagnosis) -> bool:
    """Whether a run stands still although no symptom that could be checked is a warning."""
    return diagnosis.root is None and diagnosis.lost


def tiles(run: Run) -> str:
    """The numbers of the run's summary."""
    summary, metric = run.summary, facts.metric_name(run)
    rows: list[tuple[str, str, str]] = []

    def add(title: str, key: str, note: str = "") -> None:
        if summary.get(key) is not None:
            value = float(summary[key])
            rows.append((title, facts.fixed(value) if "metric" in key else numeral(value), note))

    which = f"{summary['model']} model" if summary.get("model") else ""
    if metric != "loss":
        add(f"validation {metric}", "valid_metric", which)
        add(f"training {metric}", "train_metric", which)
    add("training loss", "train_loss", facts.objective_name(run))
    add("validation loss", "valid_loss", facts.objective_name(run))
    planned, taken = facts.planned(run), facts.steps(run)
    of = f"of {planned} planned" if planned and planned != taken else ""
    rows.append(("steps", str(taken), of or (facts.status(run) if run.status != "diverged" else "")))
    rows.append(("time", duration(summary.get("seconds")), facts.machine(run)))
    cells = "".join(
        f'<div class="tile"><dt>{text(title)}</dt><dd>{text(value)}<small>{text(note)}</small></dd></div>'
        for title, value, note in rows
    )
    return f'<dl class="tiles">{cells}</dl>'


def sentence(words: str) -> str:
    """`words` with a capital letter."""
    return words[:1].upper() + words[1:]
