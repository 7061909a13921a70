"""A table column by column: text as it stands, or numbers where every cell of a column is one."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from downslope.data.csv_text import Cells

Numbers = npt.NDArray[np.float64] | npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Columns of equally many cells.

    Attributes:
        names: Of the columns.
        held: A list of texts, or an array of numbers in which a missing cell is NaN.
        lines: The line of the file on which each row begins, counted from 1.
        told: What was decided while reading.
        delimiter: What separates cells.
        doubts: What of `told` is a guess.
        again: The texts of one column, read once more, for those that are held as numbers.
        picked: Rows of the file that are left; None for all of them.
    """

    names: list[str]
    held: Sequence[list[str] | Numbers]
    lines: Rows
    told: list[str]
    delimiter: str = ","
    doubts: tuple[str, ...] = ()
    again: Callable[[int], list[str]] | None = None
    picked: Rows | None = None

    def __len__(self) -> int:
        return len(self.lines)

    @functools.cached_property
    def headed(self) -> bool:
        """Whether the file named its columns."""
        return any(name != f"column{i + 1}" for i, name in enumerate(self.names))

    def numbers(self, index: int) -> Numbers | None:
        """Column `index` as numbers, where it is held so."""
        held = self.held[index]
        return None if isinstance(held, list) else held

    def cells(self, index: int) -> list[str]:
        """Column `index` as text."""
        held = self.held[index]
        if isinstance(held, list):
            return held
        if self.again is None:
            return [repr(float(value)) for value in held]
        texts = self.again(index)
        return texts if self.picked is None else [texts[i] for i in self.picked.tolist()]

    def where(self, rows: Rows) -> Columns:
        """Only these rows."""
        places = rows.tolist()
        held = [[each[i] for i in places] if isinstance(each, list) else each[rows] for each in self.held]
        picked = rows if self.picked is None else self.picked[rows]
        return replace(self, held=held, lines=self.lines[rows], picked=picked)

    def select(self, order: list[int], names: list[str]) -> Columns:
        """Only these columns, in this order."""
        again = None if self.again is None else functools.partial(_ordered, self.again, order)
        return replace(self, names=names, held=[self.held[i] for i in order], again=again)


def _ordered(again: Callable[[int], list[str]], order: list[int], index: int) -> list[str]:
    return again(order[index])


def of_cells(cells: Cells) -> Columns:
    """The columns of a table that is held row by row."""
    return Columns(
        names=cells.names,
        held=[list(column) for column in zip(*cells.rows, strict=True)],
        lines=np.array(cells.lines, dtype=np.int64),
        told=cells.told,
        delimiter=cells.delimiter,
        doubts=cells.doubts,
    )
