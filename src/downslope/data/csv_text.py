"""A text table cut into cells: encoding, delimiter, quotes and header found from the text itself."""

from __future__ import annotations

import csv
import itertools
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from downslope.core.errors import DataError

DELIMITERS = (",", ";", "\t", "|")
MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "?", "-", "missing"})


class Cells(NamedTuple):
    """Rows of equally many cells, stripped, and the names of their columns."""

    names: list[str]
    rows: list[list[str]]
    lines: list[int]
    """The line of the file on which each row ends, for messages."""
    told: list[str]


def is_missing(cell: str) -> bool:
    """Whether a cell stands for no value."""
    return cell.lower() in MISSING


def number(cell: str, decimal: str = ".") -> float | None:
    """The number that a cell spells, or None; Python's ``1_000`` is not one."""
    if "_" in cell:
        return None
    if decimal == ",":
        if "." in cell:
            return None
        cell = cell.replace(",", ".")
    try:
        return float(cell)
    except ValueError:
        return None


def read_cells(path: Path, target: str | None = None) -> Cells:
    """The cells of a text table.

    Args:
        path: the file.
        target: a column that has to be there; if the first row holds it, that row is the header.

    Returns:
        Names and rows.

    Raises:
        DataError: unreadable, no text, empty, or rows of different lengths.
    """
    told: list[str] = []
    text = _text(path, told)
    delimiter = _delimiter(text)
    if delimiter != ",":
        told.append(f"cells are separated by {_spoken(delimiter)}")
    reader = csv.reader(text.splitlines(), delimiter=delimiter, skipinitialspace=True, strict=False)
    rows: list[list[str]] = []
    lines: list[int] = []
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if any(cells):
                rows.append(cells)
                lines.append(reader.line_num)
    except csv.Error as error:
        raise DataError(f"{path.name}, line {reader.line_num}: {error}; is it a text table?") from error
    if not rows:
        raise DataError(f"{path.name} holds no rows; a header and at least one example are needed")
    names, start = _header(rows, target)
    if not start:
        told.append(f"no header found: columns are named {names[0]} to {names[-1]}")
    _check_lengths(path, names, rows, lines)
    if start == len(rows):
        raise DataError(f"{path.name} holds a header and no rows; at least one example is needed")
    return Cells(names, rows[start:], lines[start:], told)


def _text(path: Path, told: list[str]) -> str:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    if not raw.strip():
        raise DataError(f"{path.name} is empty; a header and at least one example are needed")
    if b"\0" in raw[:65536]:
        raise DataError(f"{path.name} is no text file; .csv needs text, arrays belong in .npz or .pt")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        told.append("the text is not UTF-8 and was read as Latin-1")
        return raw.decode("latin-1")


def _delimiter(text: str) -> str:
    """The delimiter that cuts the first 50 lines into the most equal and then the most cells."""
    head = [line for line in itertools.islice(text.splitlines(), 200) if line.strip()][:50]
    best, score = ",", (0.0, 1)
    for delimiter in DELIMITERS:
        counts = Counter(len(row) for row in csv.reader(head, delimiter=delimiter, skipinitialspace=True))
        width, agreeing = max(counts.items(), key=lambda item: (item[1], item[0]))
        share = agreeing / sum(counts.values())
        if width > 1 and (share, width) > score:
            best, score = delimiter, (share, width)
    return best


def _header(rows: list[list[str]], target: str | None) -> tuple[list[str], int]:
    """The names of the columns, and the index of the first row of data."""
    first = rows[0]
    below = rows[1:201]
    if target in first or _names_its_columns(first, below):
        names = [cell or f"column{i + 1}" for i, cell in enumerate(first)]
        seen: Counter[str] = Counter()
        for i, name in enumerate(names):
            seen[name] += 1
            names[i] = name if seen[name] == 1 else f"{name}.{seen[name]}"
        return names, 1
    return [f"column{i + 1}" for i in range(len(first))], 0


def _names_its_columns(first: list[str], below: list[list[str]]) -> bool:
    """Whether a first row holds no number, over a column of numbers or over values that it does not share."""
    if any(number(cell) is not None for cell in first if cell) or not any(first):
        return False
    columns = list(itertools.zip_longest(*below, fillvalue=""))[: len(first)]
    filled = [[cell for cell in column if not is_missing(cell)] for column in columns]
    if any(column and number(column[0]) is not None for column in filled):
        return True
    return not any(cell in column for cell, column in zip(first, filled, strict=False))


def _check_lengths(path: Path, names: list[str], rows: list[list[str]], lines: list[int]) -> None:
    for row, line in zip(rows, lines, strict=True):
        if len(row) != len(names):
            raise DataError(
                f"{path.name}, line {line}: {len(row)} cells where the first row has {len(names)}; put cells "
                "that contain the delimiter in double quotes"
            )


def _spoken(delimiter: str) -> str:
    return {"\t": "tabs"}.get(delimiter, repr(delimiter))
