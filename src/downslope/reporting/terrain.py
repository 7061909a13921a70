"""The terrain as terminal rows, as a section of the page, and as a figure."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from downslope.core.numerals import many
from downslope.reporting import console
from downslope.reporting.numerals import duration
from downslope.reporting.rows import LABEL, Row, Tone

if TYPE_CHECKING:
    from downslope.terrain.landscape import Terrain

_TONES: dict[str, Tone] = {
    "minimum": "good", "maximum": "warn", "saddle": "bad", "plateau": "bad", "slope": "plain",
}  # fmt: skip


def rows(
    found: Terrain, task: str | None = None, name: str = "", at: str = "", written: Path | None = None
) -> list[Row]:
    """The survey in the order one reads: what stands where, what it is, why, the numbers, what to do."""
    where = f"at the {at}" if at == "start" else f"{at} model" if at else ""
    parts = (
        name, where, f"{found.size:,} parameters", f"{found.examples:,} examples",
        many(found.products, "product"), duration(found.seconds),
    )  # fmt: skip
    told = [
        Row("  ".join(each for each in parts if each), tone="strong"),
        Row(f"{found.kind.upper()}: {found.why}", tone=_TONES[found.kind]),
    ]
    told += [Row(line, label="seen" if i == 0 else "", indent=0 if i == 0 else LABEL)
             for i, line in enumerate(found.numbers())]  # fmt: skip
    told += [Row(note, label="note", tone="faint") for note in found.notes]
    follow = console.opened(written)
    if not follow and task is not None and at == "start":
        follow = [Row(f"downslope fit {task}", label="next", whole=True)]
    return [*told, *follow]
