"""A large text table, read in pieces: numbers go into arrays at once, texts are kept once each."""

from __future__ import annotations

import csv
import itertools
import operator
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from downslope.core import memory
from downslope.core.errors import DataError
from downslope.data.columns import Columns, of_cells
from downslope.data.csv_text import (
    OPEN,
    delimiter_of,
    encoding_of,
    is_missing,
    layout,
    number,
    read_cells,
    reader_of,
    rows_of,
    without_comments,
    wrong_length,
)  # fmt: skip
from downslope.data.row_names import may_name_rows

LARGE = 16 * 2**20
"""Bytes of a file from which it is read in pieces; smaller ones are looked at as a whole."""

PIECE = 2_000
"""Rows of a piece; the cells of so few stay in the caches, which makes reading half as long again faster."""

_HEAD = 2**20
_NUMBER = 16
"""Bytes of memory for a number: in its piece, its column, the inputs and its part of them."""
_TEXT, _PLACE = 60, 24
"""Bytes of memory for a text beside its characters, and for its place in a column."""

Piece = tuple[list[list[str]], list[int]]


@dataclass
class _Column:
    """One column while it is read."""

    pieces: list[npt.NDArray[Any]] = field(default_factory=list[Any])
    texts: list[str] = field(default_factory=list[str])
    seen: dict[str, str] = field(default_factory=dict[str, str])
    is_text: bool = False
    begun: bool = False

    def take(self, cells: tuple[str, ...], *, wide: bool) -> None:
        """The cells of one piece."""
        if not self.is_text:
            found = _numbers(cells)
            if found is not None:
                with np.errstate(over="ignore"):  # told later, by line
                    self.pieces.append(found if wide else found.astype(np.float32))
                self.begun = True
                return
            self.is_text = True
        if not self.begun:  # else it was numbers so far, and is read once more as a whole
            self.extend(cells)

    def extend(self, cells: tuple[str, ...]) -> None:
        """Texts, stripped, each kept once."""
        seen = self.seen
        for cell in set(cells) - seen.keys():
            seen[cell] = cell.strip()
        self.texts.extend(map(seen.__getitem__, cells))

    def bytes_a_row(self, rows: int) -> float:
        """Memory that a row will take, judged by the first piece."""
        if not self.is_text:
            return _NUMBER
        kept = sum(_TEXT + 2 * len(cell) for cell in self.seen)
        return _PLACE + kept / rows


def read_columns(path: Path, target: str | None = None) -> Columns:
    """The columns of a text table, of any size; see `downslope.data.csv_text.read_cells`.

    Raises:
        DataError: what `read_cells` raises, or more than memory holds.
    """
    try:
        if path.stat().st_size < LARGE:
            return of_cells(read_cells(path, target))
        return _Large(path, target).columns()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


class _Large:
    """A file, its layout taken from its beginning."""

    def __init__(self, path: Path, target: str | None) -> None:
        self.path, self.told = path, list[str]()
        with path.open("rb") as file:
            head = file.read(_HEAD)
        self.encoding = encoding_of(path, head, self.told)
        text = head.decode(self.encoding, errors="replace").rpartition("\n")[0]
        text, self.comments = without_comments(text, self.told)
        self.delimiter = delimiter_of(text, self.told)
        rows, *_ = rows_of(path, text, self.delimiter)
        self.names, self.start, self.doubts = layout(path, rows[:-1] or rows, target)
        self.told += self.doubts
        self.goal = self.names.index(target) if target in self.names else len(self.names) - 1

    def columns(self) -> Columns:
        """All of it, numbers where a column holds nothing else."""
        width = len(self.names)
        found = [_Column() for _ in range(width)]
        lines: list[npt.NDArray[np.int64]] = []
        for rows, at in self.pieces():
            for i, cells in enumerate(zip(*rows, strict=True)):
                found[i].take(cells, wide=i == self.goal or may_name_rows(self.names[i]))
            lines.append(np.array(at, dtype=np.int64))
            if len(lines) == 1:
                self._refuse_beyond(found, at)
        if not lines:
            raise DataError(f"{self.path.name} holds a header and no rows; at least one example is needed")
        mixed = [i for i, each in enumerate(found) if each.is_text and each.begun]
        for i, texts in self._texts(mixed).items():
            found[i].texts = texts
        held = [each.texts if each.is_text else np.concatenate(each.pieces) for each in found]
        return Columns(
            names=self.names, held=held, lines=np.concatenate(lines), told=self.told,
            delimiter=self.delimiter, doubts=tuple(self.doubts), again=lambda i: self._texts([i])[i],
        )  # fmt: skip

    def pieces(self) -> Iterator[Piece]:
        """Rows that hold anything, and the lines on which they begin.

        Raises:
            DataError: rows of different lengths, or a quote that does not close.
        """
        width, line, skip = len(self.names), 1, self.start
        with self.path.open(encoding=self.encoding, errors="replace", newline="") as file:
            skipped = ["\n" for _ in itertools.islice(file, self.comments)]
            reader = reader_of(itertools.chain(skipped, file), self.delimiter)
            rows: list[list[str]] = []
            lines: list[int] = []
            try:
                for row in reader:
                    begins, line = line, reader.line_num + 1
                    if not any(row):
                        continue
                    if len(row) == width + 1 and not row[-1]:  # every line may end with the delimiter
                        row.pop()
                    if len(row) != width:
                        raise wrong_length(self.path, begins, len(row), width, line - begins)
                    if skip:
                        skip -= 1
                        continue
                    rows.append(row)
                    lines.append(begins)
                    if len(rows) == PIECE:
                        yield rows, lines
                        rows, lines = [], []
            except csv.Error as error:
                raise DataError(f"{self.path.name}, line {line}: {error}{OPEN}") from error
        if rows:
            yield rows, lines

    def _texts(self, which: list[int]) -> dict[int, list[str]]:
        """The texts of some columns."""
        columns = {i: _Column(is_text=True) for i in which}
        for rows, _ in self.pieces() if which else ():
            for i, column in columns.items():
                column.extend(tuple(map(operator.itemgetter(i), rows)))
        return {i: column.texts for i, column in columns.items()}

    def _refuse_beyond(self, found: list[_Column], lines: list[int]) -> None:
        """Judge by the first piece what all of it will take."""
        size = self.path.stat().st_size
        with self.path.open("rb") as file:
            some = sum(map(len, itertools.islice(file, lines[-1])))
        rows = len(lines) * size / max(some, 1)
        memory.refuse_beyond(
            self.path.name,
            rows * sum(each.bytes_a_row(len(lines)) for each in found),
            "leave columns out, or give a Dataset that reads it piece by piece",
        )


def _numbers(cells: tuple[str, ...]) -> npt.NDArray[np.float64] | None:
    """A column of a piece as numbers, missing cells NaN; None where a cell is neither."""
    try:
        found = np.fromiter(map(float, cells), dtype=np.float64, count=len(cells))
        if "_" not in "".join(cells):  # float() reads 1_000 as a number
            return found
    except ValueError:
        pass
    values: list[float] = []
    for cell in map(str.strip, cells):
        value = float("nan") if is_missing(cell) else number(cell)
        if value is None:
            return None
        values.append(value)
    return np.array(values)
