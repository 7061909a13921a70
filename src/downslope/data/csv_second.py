"""A second text table, read as the first was: the same columns in the same order, the same coding."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from downslope.core.errors import DataError
from downslope.core.names import did_you_mean
from downslope.data.columns import Columns, Numbers, Rows
from downslope.data.csv_text import is_missing
from downslope.data.written import Written

Floats = npt.NDArray[np.float32]


class Coding(NamedTuple):
    """How one column of text became columns of the input."""

    kind: Literal["left out", "number", "levels"]
    form: Written = Written()
    """How its numbers are written."""
    levels: tuple[str, ...] = ()
    """Every text that the column holds, "missing" among them where cells are empty."""
    used: tuple[str, ...] = ()
    """Those that have a column of 0 and 1."""


def coding_of(name: str, coding: Coding) -> dict[str, Any]:
    """The coding of column `name` in plain values."""
    if coding.kind == "number":
        form = {key: value for key, value in coding.form._asdict().items() if value}
        return {"name": name, "kind": coding.kind, **form}
    return {"name": name, "kind": coding.kind, "levels": list(coding.levels), "used": list(coding.used)}


def takes_numbers(coding: Coding) -> bool:
    """Whether a column coded so may come as numbers."""
    return coding.kind == "number" and coding.form.plain


def coding_from(kept: Mapping[str, Any]) -> Coding:
    """What `coding_of` wrote."""
    form = Written(kept.get("decimal", "."), kept.get("group", ""), kept.get("sign", ""))
    return Coding(kept["kind"], form, tuple(kept.get("levels", ())), tuple(kept.get("used", ())))


def aligned(cells: Columns, path: Path, first: Path, names: list[str]) -> Columns:
    """`cells` with the columns `names` of the first file, in its order; what else there is, is left out.

    Raises:
        DataError: a column is missing.
    """
    for name in names:
        if name not in cells.names:
            hint = did_you_mean(name, cells.names[:30])
            raise DataError(f"{path.name}: no column {name!r}, which {first.name} has{hint}")
    return cells.select([cells.names.index(name) for name in names], names)


def refuse_overflow(
    values: Floats, column: Callable[[], list[str]], name: str, lines: Rows, path: Path
) -> None:
    """Refuse numbers that float32 cannot hold; what is written as infinite is told elsewhere.

    Args:
        values: shape (n,), as they were read.
        column: gives their cells, asked only where a value is infinite.
        name: of the column.
        lines: the line of each cell.
        path: of the file.

    Raises:
        DataError: naming the first in the file's order.
    """
    infinite = np.flatnonzero(np.isinf(values)).tolist()
    cells = column() if infinite else []
    rows = [row for row in infinite if "inf" not in cells[row].lower()]
    if rows:
        count = "" if len(rows) == 1 else f" (the first of {len(rows)} such values)"
        raise DataError(
            f"{path.name} line {lines[rows[0]]}, column {name!r}: {cells[rows[0]]}{count} overflows "
            "float32, whose largest number is 3.4e38; rescale the column, by its logarithm or another unit"
        )


def coded(
    column: list[str] | Numbers, coding: Coding, name: str, lines: Rows, path: Path, first: Path
) -> Floats:
    """One column of the second file, coded as that of the first.

    Args:
        column: its cells, or numbers, which are asked for where the coding takes them.
        coding: what was decided on the first file.
        name: of the column.
        lines: the line of each cell.
        path: the second file.
        first: the first file.

    Returns:
        Shape (n, columns of the input).

    Raises:
        DataError: a text where the first file has numbers, or a category that it does not hold.
    """
    if coding.kind == "left out":
        return np.empty((len(column), 0), np.float32)
    if not isinstance(column, list):
        with np.errstate(over="ignore"):
            values = column.astype(np.float32)
        refuse_overflow(values, lambda: [repr(float(each)) for each in column], name, lines, path)
        return values[:, None]
    if coding.kind == "levels":
        filled = ["missing" if is_missing(cell) else cell for cell in column]
        known = set(coding.levels)
        for cell, line in zip(filled, lines, strict=True):
            if cell not in known:
                raise DataError(
                    f"{path.name} line {line}, column {name!r}: {cell!r} does not occur in {first.name}; "
                    "leave such rows out, or see that the training file holds every category"
                )
        array = np.array(filled)
        return np.stack([(array == level).astype(np.float32) for level in coding.used], axis=1)
    numbers = [np.nan if is_missing(cell) else coding.form.read(cell) for cell in column]
    without = f" with {coding.form.sign!r}" if coding.form.sign else ""
    for value, cell, line in zip(numbers, column, lines, strict=True):
        if value is None:
            raise DataError(
                f"{path.name} line {line}, column {name!r}: {cell!r} is no number{without}, and {first.name} "
                "holds numbers there; correct it, or leave the cell empty"
            )
    with np.errstate(over="ignore"):
        values = np.array(numbers, dtype=np.float64).astype(np.float32)
    refuse_overflow(values, lambda: column, name, lines, path)
    return values[:, None]
