"""Ways over functions and slices as terminal rows."""

from __future__ import annotations

import math
from pathlib import Path

from downslope.core.numerals import many, numeral, place
from downslope.reporting import console
from downslope.reporting.numerals import duration
from downslope.reporting.rows import LABEL, Row
from downslope.terrain.paths.paths import Paths, Way
from downslope.terrain.slices.slice import Slice

HEAD = ("optimizer", "lr", "ended at", "value", "steps", "evals", "where that is")


def paths_rows(found: Paths, written: Path | None = None) -> list[Row]:
    """Where each optimizer ended, as a table."""
    function = found.function
    told = [
        Row(f"{function.spelt}  {function.formula}  from {place(found.start)}  {duration(found.seconds)}",
            tone="strong"),
    ]  # fmt: skip
    table = [HEAD, *(_cells(way) for way in found.ways)]
    wide = [max(len(row[i]) for row in table) for i in range(len(HEAD))]
    for index, row in enumerate(table):
        cells = [cell.ljust(wide[i]) if i in (0, 2, 6) else cell.rjust(wide[i]) for i, cell in enumerate(row)]
        arrived = index > 0 and found.ways[index - 1].ended == "global minimum"
        tone = "faint" if index == 0 else "good" if arrived else "plain"
        told.append(Row("  ".join(cells).rstrip(), tone=tone, whole=True))
    if function.lowest:
        lowest = ", ".join(place(each.at) for each in function.lowest[:4])
        more = len(function.minima) - len(function.lowest)
        local = f", and {many(more, 'local minimum').replace('minimums', 'minima')}" if more else ""
        told.append(
            Row(f"the lowest value is {numeral(function.lowest[0].value)}, at {lowest}{local}", label="known")
        )
    if function.shows:
        told.append(Row(function.shows, label="shows"))
    told += [Row(note, label="note", tone="faint") for note in found.notes]
    return [*told, *console.opened(written)]


def _cells(way: Way) -> tuple[str, ...]:
    lr = way.settings.get("lr")
    end = way.at[-1].tolist()
    at = place(end) if math.isfinite(sum(end)) else ""
    return (
        way.optimizer, "" if lr is None else numeral(float(lr)), at,
        numeral(float(way.values[-1])), str(way.steps), str(way.evaluations[-1]), way.ended,
    )  # fmt: skip


def slice_rows(found: Slice) -> list[Row]:
    """What a slice is, in a few lines."""
    size = " x ".join(str(len(axis.coordinates)) for axis in found.axes)
    low = found.lowest
    here = found.marks[0] if found.marks else None
    parts = [f"{found.quantity} at {size} points over {' and '.join(axis.name for axis in found.axes)}"]
    if here is not None and math.isfinite(here.value):
        parts.append(f"{numeral(here.value, 4)} {here.name}")
    if low is not None:
        parts.append(f"{low.name} {numeral(low.value, 4)} at {place(low.at)}")
    told = [Row(", ".join(parts), label="slice")]
    return told + [Row(note, indent=LABEL, tone="faint") for note in found.notes]
