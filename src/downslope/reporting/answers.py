"""Sections of measurements that are read as a table: the exact answer, and what a batch size costs."""

from __future__ import annotations

import math

from downslope.reporting.markup import Section, table, text
from downslope.reporting.numerals import numeral
from downslope.terrain.exact.solution import Solution
from downslope.training.batch_table import BatchTable


def solution_section(found: Solution, *, key: str = "exact") -> Section:
    """The exact answer: value, proof, and what is to be known of the data.

    Args:
        found: What `solve` gave.
        key: Anchor, unique on the page.
    """
    head, proof, *notes = found.lines()
    rows = [("answer", head), ("proof", proof), *(("note", each) for each in notes)]
    rows.append(
        ("data", f"rank {found.rank} of {found.columns} columns, condition {numeral(found.condition)}")
    )
    cells = [(label, text(each)) for label, each in rows]
    body = f'<div class="card">{table(("what", "found"), cells)}</div>'
    return Section(id=key, title="The exact answer", body=body, rank=37, short="Exact")


def batch_section(found: BatchTable, *, key: str = "batches") -> Section:
    """Time, memory and error of the gradient over the batch size.

    Args:
        found: What `batch_table` gave.
        key: Anchor, unique on the page.
    """
    head = ("batch", "ms a step", "us an example", "MB", "standard error", "of the gradient's norm")
    rows = [
        (str(row.size), f"{1e3 * row.seconds:.3f}", f"{1e6 * row.each:.1f}", f"{row.memory / 1e6:.2f}",
         f"{row.stderr:.3g}" if math.isfinite(row.stderr) else "-",
         f"{row.stderr / found.norm:.2f}" if found.norm > 0 and math.isfinite(row.stderr) else "-")
        for row in found.rows
    ]  # fmt: skip
    last = str(found).splitlines()[-1]
    body = f'<div class="card">{table(head, rows, numeric=range(len(head)))}</div>'
    lead = f"{last[0].upper()}{last[1:]}."
    return Section(id=key, title="Batch sizes", body=body, lead=lead, rank=36, short="Batches")
