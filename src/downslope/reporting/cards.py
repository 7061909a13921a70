"""Findings as cards: what is wrong, the number beside its limit, what follows, what to do."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from downslope.core.finding import Evidence, Finding, Where
from downslope.reporting.markup import Section, edited, empty, tag, text
from downslope.reporting.numerals import numeral
from downslope.reporting.verdict import sentence

if TYPE_CHECKING:
    from downslope.diagnosis.diagnosis import Diagnosis

_WIDTH = 400.0
_FATES = {"kept": "good", "works, not kept": "info", "worse": "warn", "failed": "warn"}
_ENTITIES = {"model": "the model", "objective": "the objective", "optimisation": "the recipe"}


def section(diagnosis: Diagnosis, proved: Mapping[str, str] | None = None) -> Section:
    """The findings of a diagnosis, root cause first.

    Args:
        diagnosis: What was found.
        proved: What a repair says of each remedy, by the remedy's words.
    """
    cards = "".join(card(each, proved or {}) for each in diagnosis.findings)
    many = len(diagnosis.findings)
    lead = "" if many < 2 else "The first is the root: work on it before the others."
    return Section(id="findings", title="What was found", body=cards, lead=lead, rank=10, short="Findings")


def card(finding: Finding, proved: Mapping[str, str]) -> str:
    """One finding as HTML."""
    rows = "".join(evidence(each) for each in (finding.evidence, *finding.also))
    parts = [
        f"<header><h3>{text(sentence(finding.title))}</h3>{tag(finding.severity, finding.severity)}"
        f'<code class="muted">{text(finding.symptom)}</code></header>',
        f'<p class="message">{text(finding.message)}</p>' if finding.message else "",
        f'<p class="where">In {text(finding.where)}</p>' if finding.where != Where() else "",
        f'<ul class="evidence">{rows}</ul>',
        _consequences(finding.consequences),
        _remedies(finding, proved),
        f'<p class="source">Source: {text(finding.source)}</p>' if finding.source else "",
        f'<p class="source">Explained in <code>docs/symptoms/{text(finding.symptom)}.md</code></p>',
    ]
    return f'<article class="card finding {finding.severity}">{"".join(parts)}</article>'


def evidence(each: Evidence) -> str:
    """A number, a bar that shows it beside its limit, and the same in words."""
    value = _united(each.value, each.unit)
    bounded = math.isfinite(each.threshold)
    limit = f"limit {_united(each.threshold, each.unit)}" if bounded else "wanted without limit"
    numbers = f"<b>{text(value)}</b> · {text(limit)}"
    why = each.provenance.replace("convention: ", "by convention, ", 1)
    provenance = f'<span class="provenance">{"Limit: " if bounded else ""}{text(why)}</span>' if why else ""
    words = f"{each.name}: {value}, {limit}"
    return (
        f'<li><span class="name">{text(each.name)}</span>{bar(each.value, each.threshold, words)}'
        f'<span class="numbers">{numbers}</span>{provenance}</li>'
    )


def _united(value: float, unit: str) -> str:
    """A number with its unit; a ratio has none, a share is told in percent."""
    if unit.startswith("share"):
        return f"{numeral(100 * value)} %{unit.removeprefix('share')}"
    return numeral(value) if unit == "ratio" else f"{numeral(value)} {unit}"


def bar(value: float, limit: float, words: str) -> str:
    """A bar as long as `value` with a tick at `limit`; logarithmic where they are far apart.

    Nothing is drawn where one of them is not finite, or both are zero.
    """
    if not (math.isfinite(value) and math.isfinite(limit)) or (value == 0 and limit == 0):
        return "<span></span>"
    at, tick = (0.0, 0.92 * _WIDTH) if value < 0 < limit else _places(abs(value), abs(limit))
    box = f'viewBox="0 0 {_WIDTH:.0f} 26" preserveAspectRatio="none"'
    return (
        f'<svg {box} role="img" aria-label="{text(words)}">'
        f'<rect class="track" x="0" y="8" width="{_WIDTH:.0f}" height="10" rx="3"/>'
        f'<rect class="fill" x="0" y="8" width="{at:.1f}" height="10" rx="3"/>'
        f'<line class="limit" x1="{tick:.1f}" x2="{tick:.1f}" y1="3" y2="23"/></svg>'
    )


def _places(value: float, limit: float) -> tuple[float, float]:
    """Ends of bar and tick in the drawing's units."""
    high, low = max(value, limit), min(value, limit)
    if low > 0 and high / low > 20:
        decades = math.log10(high / low)
        start = math.log10(low) - 0.6 * max(1.0, decades / 4)
        span = (math.log10(high) - start) * 1.06
        return tuple((math.log10(each) - start) / span * _WIDTH for each in (value, limit))  # pyright: ignore[reportReturnType]
    return max(value / high / 1.08 * _WIDTH, 1.5), limit / high / 1.08 * _WIDTH


def _consequences(found: Sequence[Finding]) -> str:
    if not found:
        return ""
    rows = "".join(
        f'<li><b>{text(sentence(each.title))}</b> <span class="muted">({text(each.where)})</span>'
        f"{': ' + text(each.message) if each.message else ''}</li>"
        for each in found
    )
    return f'<h4>What follows from it</h4><ul class="then">{rows}</ul>'


def _remedies(finding: Finding, proved: Mapping[str, str]) -> str:
    if not finding.remedies:
        return ""
    rows: list[str] = []
    for edit in finding.remedies:
        kind = _ENTITIES[edit.entity] if edit.provable else "by hand"
        said = proved.get(str(edit), "")
        word = tag(said, _FATES.get(said, "")) if said else ""
        rows.append(f"<li>{edited(edit)} {tag(kind)} {word}</li>")
    return f"<h4>What to do</h4><ol>{''.join(rows)}</ol>"


def checks(diagnosis: Diagnosis) -> Section:
    """What was cleared, with the number that cleared it, and what could not be judged, with the reason.

    Folded where something was found: then it is for those who doubt the finding.
    """

    def listed(rows: Sequence[tuple[str, str]], title: str, kind: str) -> str:
        items = "".join(
            f'<li><code>{text(name)}</code> <span class="muted">{text(why)}</span></li>' for name, why in rows
        )
        return f'<h3>{text(title)}</h3><ul class="{kind}">{items}</ul>' if rows else ""

    clear, open_ = diagnosis.cleared, diagnosis.not_checked
    notes = "".join(f'<p class="muted note">{text(each)}</p>' for each in diagnosis.notes)
    lists = listed(clear, "Cleared", "done") + listed(open_, "Not judged", "un")
    body = f'<div class="card checks">{lists or empty("Nothing else was checked.")}{notes}</div>'
    counted = f"{len(clear)} cleared" + (f", {len(open_)} not judged" if open_ else "")
    return Section(
        id="checks", title=f"What else was checked: {counted}", body=body, rank=50, short="Checks",
        folded=bool(diagnosis.findings),
    )  # fmt: skip
