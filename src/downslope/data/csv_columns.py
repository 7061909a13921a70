"""One column of a table to columns of the input: numbers as they are, levels of a text as 0 and 1."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from downslope.data.columns import Columns, Numbers
from downslope.data.csv_second import Coding, Floats
from downslope.data.csv_text import is_date, is_missing
from downslope.data.row_names import why_row_name
from downslope.data.written import MOSTLY, Written, form_of, left_as_text, mostly_numbers

MOST_LEVELS = 50
"""A text column with more distinct values is an identifier or free text, and is left out."""

PLAIN = Written()


class Column(NamedTuple):
    """One column of the file as columns of the input; none where it is left out."""

    names: list[str]
    values: Floats
    """Shape (n, number of names)."""
    coding: Coding = Coding("left out")
    """How the cells became values, for another file of the same columns."""
    odd: tuple[tuple[int, str], ...] = ()
    """Line and text of the cells that are no numbers among numbers."""


def column_of(table: Columns, index: int, tell: Callable[[str], None]) -> Column:
    """Column `index` of a table.

    Args:
        table: Its rows have a target.
        index: Of the column.
        tell: Takes up what was decided, one sentence each.

    Returns:
        Its columns of the input; none where it is empty, constant text, dates, free text or names its rows.
    """
    name, lines, plain = table.names[index], table.lines, table.numbers(index)
    headed = table.headed
    if plain is not None and not np.isnan(plain).all():
        return _numeric(name, plain, tell, headed=headed)
    cells = table.cells(index)
    plain = _plain(cells)
    if plain is not None:
        return _numeric(name, plain, tell, headed=headed)
    present = [i for i, cell in enumerate(cells) if not is_missing(cell)]
    if not present:
        tell(f"column {name!r} is empty and left out")
        return _left_out(len(cells))
    form = form_of(cells, table.delimiter)
    if form is None:
        return _categorical(name, cells, tell)
    if not form.plain:
        tell(f"column {name!r} {form.said(cells)}")
    values = [None if is_missing(cell) else form.read(cell) for cell in cells]
    bad = [i for i in present if values[i] is None]
    if bad:
        tell(
            f"column {name!r}: {counted(len(bad), 'cell')} no number and taken as missing, the first is "
            f"{cells[bad[0]]!r} in line {lines[bad[0]]}"
        )
    array = np.array([np.nan if value is None else value for value in values])
    odd = tuple((int(lines[i]), cells[i]) for i in bad)
    return _numeric(name, array, tell, form, headed=headed)._replace(odd=odd)


def counted(count: int, what: str) -> str:
    """So many are: "1 cell is", "2 cells are"."""
    return f"1 {what} is" if count == 1 else f"{count} {what}s are"


def _left_out(rows: int) -> Column:
    return Column([], np.empty((rows, 0), np.float32))


def _plain(cells: list[str]) -> npt.NDArray[np.float64] | None:
    """A column of nothing but numbers, the usual case, in one pass."""
    try:
        array = np.array([float(cell) for cell in cells])
    except ValueError:
        return None
    # float() reads 1_000 as a number; and what spells "nan" in every row is an empty column.
    return None if np.isnan(array).all() or "_" in "".join(cells) else array


def _numeric(
    name: str, array: Numbers, tell: Callable[[str], None], form: Written = PLAIN, *, headed: bool
) -> Column:
    why = why_row_name(name, array, headed=headed)
    if why is not None:
        tell(f"column {name!r} {why} and is left out")
        return _left_out(len(array))
    if len(array) > 1 and bool(np.all(array == array[0])):
        tell(f"column {name!r} is constant")
    with np.errstate(over="ignore"):
        return Column([name], array.astype(np.float32)[:, None], Coding("number", form))


def _categorical(name: str, cells: list[str], tell: Callable[[str], None]) -> Column:
    """One column of 0 and 1 for each level; one in all where there are two levels."""
    if sum(map(is_date, cells)) >= MOSTLY * sum(not is_missing(cell) for cell in cells):
        tell(f"column {name!r} holds dates and is left out; numbers made of them (days, months) can be used")
        return _left_out(len(cells))
    hint = left_as_text(cells) or mostly_numbers(cells)
    also = "" if hint is None else f"; it {hint}"
    filled = ["missing" if is_missing(cell) else cell for cell in cells]
    levels = sorted(set(filled))
    if len(levels) > max(2, min(MOST_LEVELS, len(cells) // 2)):
        tell(f"column {name!r} is text with {len(levels)} different values and is left out{also}")
        return _left_out(len(cells))
    if len(levels) == 1:
        tell(f"column {name!r} is text with one value and is left out")
        return _left_out(len(cells))
    used = levels[1:] if len(levels) == 2 else levels
    tell(
        f"column {name!r} is text: {len(used)} columns of 0 and 1{also}"
        if len(used) > 1
        else f"column {name!r} is text: 1 where it is {used[0]!r}, else 0{also}"
    )
    gaps = sum(map(is_missing, cells))
    if gaps:
        own = "its own" if gaps == 1 else "their own"
        tell(f"column {name!r}: {counted(gaps, 'cell')} missing: a category of {own}")
    array = np.array(filled)
    return Column(
        [f"{name}={level}" for level in used],
        np.stack([(array == level).astype(np.float32) for level in used], axis=1),
        Coding("levels", levels=tuple(levels), used=tuple(used)),
    )
