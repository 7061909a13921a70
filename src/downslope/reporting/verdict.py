"""The top of the page: what ran, on what, and in one sentence how it stands."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from downslope.core.run import Run
from downslope.reporting import facts
from downslope.reporting.markup import text
from downslope.reporting.numerals import duration, loss

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


def top(run: Run, diagnosis: Diagnosis | None, proof: str = "", after: Run | None = None) -> str:
    """Heading, banner and the numbers that matter, as HTML.

    Args:
        run: The run that the page is about.
        diagnosis: What was found; None where nothing was asked.
        proof: One sentence of a repair, plain text; "" without one.
        after: The repaired run, whose numbers stand beside those of `run`.
    """
    sub = [facts.recipe(run), facts.sizes(run), facts.machine(run), facts.convex(run) or facts.shape(run)]
    lines = "".join(f"<span>{text(each)}</span>" for each in sub if each)
    return (
        f'<div class="top"><h1>{text(facts.name(run))}</h1><div class="sub">{lines}</div>'
        f"{banner(run, diagnosis, proof)}{tiles(run, after)}</div>"
    )


def banner(run: Run, diagnosis: Diagnosis | None, proof: str) -> str:
    """The verdict in a coloured box: sign and words, not colour alone."""
    mood, head, words = verdict(run, diagnosis)
    lines = "".join(f"<p>{text(each)}</p>" for each in words if each)
    lines += f'<p class="proved">{text(proof)}</p>' if proof else ""
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
        bad = facts.bad(run)
        head = sentence(ended) if ended else "Trained; no diagnosis was asked for"
        lost = facts.no_better(run)
        return ("bad" if bad else "warn" if lost else "plain"), head, ((sentence(lost),) if lost else ())
    root = diagnosis.root
    came = calm(diagnosis.verdict)
    if unexplained(diagnosis):
        return "warn", UNEXPLAINED, (came,)
    if root is None and diagnosis.reserve:
        return "warn", sentence(diagnosis.reserve), (came,)
    if root is None:
        seen = [each.message or each.title for each in diagnosis.findings]
        return "good", "Healthy, nothing to fix", (came, *seen[:2])
    mood: Mood = "bad" if root.severity == "critical" else "warn"
    return mood, sentence(root.title), (came, _TRIED.sub("", root.message))


_TRIED = re.compile(r" (Tried( and not confirmed)?: .*|Not tried\.)$", flags=re.DOTALL)
"""What the trials said stands in the finding's card; the banner has the proof."""


def calm(words: str) -> str:
    """A verdict that shouts ("NOT LEARNING: ...") in ordinary letters, and whole as a sentence."""
    head, colon, rest = words.partition(":")
    said = (head.capitalize() if head.isupper() else head) + colon + rest
    return said if not said or said.endswith(".") else said + "."


def unexplained(diagnosis: Diagnosis) -> bool:
    """Whether a run stands still although no symptom that could be checked is a warning."""
    return diagnosis.root is None and diagnosis.lost


def tiles(run: Run, after: Run | None = None) -> str:
    """The numbers of the run's summary, each beside that of the repaired run where there is one."""
    metric, objective = facts.metric_name(run), facts.objective_name(run)
    rows: list[tuple[str, str, str]] = []

    def add(title: str, key: str, note: str) -> None:
        told = [_with_error(_number(each, key)) for each in (run, after) if each is not None]
        told = [each for each in told if each]
        if _number(run, key):
            value = told[0] + "".join(f' <span class="now">\u2192 {each}</span>' for each in told[1:])
            rows.append((title, value, note))

    if metric != "loss":
        add(f"validation {metric}", "valid_metric", _which(run))
        add(f"training {metric}", "train_metric", _which(run))
        for column, title in facts.by_task(run).items():
            add(f"validation {title}", f"valid_{column}", _which(run))
            add(f"training {title}", f"train_{column}", _which(run))
    add("training loss", "train_loss", objective)
    apart = facts.valid_apart(run)
    add(f"validation {apart or 'loss'}", "valid_loss", "on a scale of its own" if apart else objective)
    planned, taken = facts.planned(run), facts.steps(run)
    of = f"of {planned} planned" if planned and planned != taken else ""
    rows.append(("steps", str(taken), of or (facts.status(run) if run.status != "diverged" else "")))
    rows.append(("time", text(duration(run.summary.get("seconds"))), facts.machine(run)))
    cells = "".join(
        f'<div class="tile"><dt>{text(title)}</dt><dd>{value}<small>{text(note)}</small></dd></div>'
        for title, value, note in rows
    )
    return f'<dl class="tiles">{cells}</dl>'


def _with_error(words: str) -> str:
    """A number as HTML, its standard error smaller."""
    value, sign, error = words.partition(" \u00b1 ")
    return text(value) + (f'<span class="error"> \u00b1 {text(error)}</span>' if sign else "")


def _number(run: Run, key: str) -> str:
    """A number of the summary as it is told; "" where there is none."""
    value = run.summary.get(key)
    if value is None:
        return ""
    scored = "metric" in key or key.partition("_")[2] in facts.by_task(run)
    told = facts.fixed(float(value)) if scored else loss(float(value))
    return facts.with_error(run, key, told, "\u00b1")


def _which(run: Run) -> str:
    """Whose numbers they are: of the last model, or of the best, with its step and what came of it."""
    which, best = run.summary.get("model"), run.summary.get("best_step")
    if which != "best" or best in (None, facts.steps(run)):
        return f"{which} model" if which else ""
    last = run.history.last("valid_metric")
    ended = "" if last is None else f"; {facts.fixed(float(last))} at the end"
    return f"best model, step {best}{ended}"


def sentence(words: str) -> str:
    """`words` with a capital letter."""
    return words[:1].upper() + words[1:]
