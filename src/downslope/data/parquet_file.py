"""Parquet: a typed table, read by pyarrow into the cells that any text table has."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any, cast

from downslope.core import memory
from downslope.core.errors import DataError
from downslope.data.csv_file import load_cells
from downslope.data.csv_text import Cells
from downslope.data.table import Loaded

CELL = 90
"""Bytes of memory that a cell takes while the table is read: a text of Python's, and its place in a row."""


def load_parquet(path: Path, target: str | None, *, seed: int, valid: float | Path) -> Loaded:
    """Inputs and target from a table; see `downslope.data.paths.load_path`."""
    return load_cells(path, cells_of_parquet, target, seed=seed, valid=valid)


def cells_of_parquet(path: Path, target: str | None = None) -> Cells:
    """The cells of a table, as text; a null is an empty cell, a boolean True or False.

    Args:
        path: the file.
        target: not needed: the file names its columns.

    Raises:
        DataError: pyarrow is not installed, the file is unreadable or empty, or a column is nested.
    """
    del target
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
    names = [str(name) for name in table.column_names]
    cells = [_spelt(table.column(i), names[i], path, arrow) for i in range(columns)]
    listed = [list(row) for row in zip(*cells, strict=True)]
    return Cells(names, listed, list(range(1, rows + 1)), [])


def _spelt(column: Any, name: str, path: Path, arrow: Any) -> list[str]:
    kind = column.type
    if arrow.types.is_nested(kind) or arrow.types.is_binary(kind):
        raise DataError(
            f"{path.name}: column {name!r} holds {kind}, no single values; remove it, or make columns of it"
        )
    values = cast("list[Any]", column.to_pylist())
    return ["" if value is None else value if isinstance(value, str) else _number(value) for value in values]


def _number(value: Any) -> str:
    return repr(value) if isinstance(value, float) else str(value)
