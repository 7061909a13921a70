"""Parquet: a typed table, read by pyarrow into the cells that any text table has."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any, cast

import numpy as np

from downslope.core import memory
from downslope.core.errors import DataError
from downslope.data.columns import Columns, Numbers
from downslope.data.csv_file import load_columns
from downslope.data.csv_text import alike, told_apart
from downslope.data.table import Loaded

CELL = 60
"""Bytes of memory that a cell takes at most while the table is read: a short text of Python's."""


def load_parquet(path: Path, target: str | None, *, seed: int, valid: float | Path) -> Loaded:
    """Inputs and target from a table; see `downslope.data.paths.load_path`."""
    return load_columns(path, columns_of_parquet, target, seed=seed, valid=valid)


def columns_of_parquet(path: Path, target: str | None = None) -> Columns:
    """The columns of a table: numbers as they are, a null NaN; anything else as text, a null empty.

    Args:
        path: the file.
        target: of this name there must not be two.

    Raises:
        DataError: pyarrow is not installed, the file is unreadable or empty, a column is nested, or several
            are named as the target is.
    """
    if importlib.util.find_spec("pyarrow") is None:
        raise DataError(
            f"{path.name}: Parquet needs pyarrow, which is not installed; pip install 'downslope[tables]', "
            "or save the table as .csv"
        )
    parquet: Any = importlib.import_module("pyarrow.parquet")
    arrow: Any = importlib.import_module("pyarrow")
    try:
        with parquet.ParquetFile(path) as file:
            rows, columns = file.metadata.num_rows, len(file.schema_arrow)
            memory.refuse_beyond(path.name, rows * columns * CELL, "give a Dataset that reads it in pieces")
            table = file.read()
    except (OSError, arrow.ArrowException) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DataError(f"{path.name}: not a readable Parquet file: {reason}") from error
    if not rows or not columns:
        raise DataError(f"{path.name} holds {rows} rows of {columns} columns; at least one example is needed")
    header = [str(name) for name in table.column_names]
    names, doubts = told_apart(header), alike(path, header, target)
    held = [_held(table.column(i), names[i], path, arrow) for i in range(columns)]
    return Columns(
        names=names, held=held, lines=np.arange(1, int(rows) + 1), told=list(doubts), doubts=tuple(doubts)
    )


def _held(column: Any, name: str, path: Path, arrow: Any) -> list[str] | Numbers:
    """One column, whole numbers in float64, which holds them up to 2**53."""
    kind = column.type
    if arrow.types.is_nested(kind) or arrow.types.is_binary(kind):
        raise DataError(
            f"{path.name}: column {name!r} holds {kind}, no single values; remove it, or make columns of it"
        )
    if arrow.types.is_integer(kind) or arrow.types.is_floating(kind):
        found: Any = column.cast(arrow.float64(), safe=False).to_numpy(zero_copy_only=False)
        return cast("Numbers", np.asarray(found, dtype=np.float64))
    return ["" if value is None else str(value) for value in cast("list[Any]", column.to_pylist())]
