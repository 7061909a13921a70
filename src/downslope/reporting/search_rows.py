"""A search as terminal rows: the best first, then what mattered, what lies at an edge, what went wrong."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from downslope.reporting.rows import LABEL, Row, Tone

if TYPE_CHECKING:
    from downslope.tuning.search import Search

SHOWN = 5
"""Trials that the table at the end has."""

_TONES: dict[str, Tone] = {"best": "good", "nothing": "bad", "luck": "warn", "edge": "warn", "failed": "bad"}


def rows(found: Search) -> list[Row]:
    """What was found."""
    name = found.problem.name or "problem"
    by = f" by {found.plan.pruner}" if found.plan.pruner else ""
    told = [Row(f"{name}  {found.plan.sampler} search of {', '.join(found.space)}{by}", tone="strong")]
    for label, text in found.told():
        told.append(Row(text, label=label, tone=_TONES.get(label, "plain")))
        if label == "best":
            told += [
                Row(line, indent=LABEL, tone="faint", whole=True) for line in found.table(SHOWN).split("\n")
            ]
    return told


def next_rows(found: Search, task: str | None, best: Path | None, written: Path | None) -> list[Row]:
    """What to do next, as commands that can be copied.

    Args:
        found: The search.
        task: TASK as the next command has to say it; None where it is not known.
        best: File of the best recipe.
        written: The report.
    """
    told: list[Row] = []
    if found.interrupted and found.folder is not None:
        told.append(Row(f"downslope resume {found.folder}", label="next", whole=True))
    elif best is not None and task is not None:
        told.append(Row(f"downslope fit {task} --recipe {best}", label="next", whole=True))
        if found.further:
            told.append(Row(_again(found, task, best), indent=LABEL, whole=True))
    elif best is not None:
        told.append(Row(str(best), label="recipe", whole=True))
    if found.folder is not None:
        told.append(Row(str(found.folder), label="kept", whole=True))
    if found.journal is not None and "://" not in found.journal:
        told.append(Row(f"optuna-dashboard {found.journal}", label="look", whole=True))
    if written is not None:
        told.append(Row(str(written), label="report", whole=True))
    return told


def _again(found: Search, task: str, best: Path) -> str:
    """The command of the next, finer search."""
    keys = [f"--{key.replace('_', '-')} {shlex.quote(each.text())}" for key, each in found.finer.items()]
    seen = found.best.seeds  # what chose this best must not confirm the next
    seed = f" --set seed={max(seen) + 1}" if seen else ""
    return f"downslope tune {task} --recipe {best}{seed} {' '.join(keys)}"
