"""Rows for machines that print as a table: what `catalogue` functions return."""

from __future__ import annotations

import itertools
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from typing import ClassVar, Generic, Protocol, SupportsIndex, TypeVar, overload

from downslope.core import names
from downslope.core.errors import UnknownNameError

__all__ = ["Listing"]


class _Named(Protocol):
    @property
    def name(self) -> str: ...


Row = TypeVar("Row", bound=_Named)


class Listing(tuple[Row, ...], Generic[Row]):
    """Rows by place or by name; ``print`` shows them as a table, as wide as the terminal.

    ``for row in rows`` gives rows, each with its ``name``; ``rows["adam"]`` one of them, under any spelling
    or alias that a recipe takes; ``"adam" in rows`` asks for a name, and ``rows.keys()`` has all of them, so
    that ``dict(rows)`` is names to rows.

    Raises:
        UnknownNameError: no row has that name; the message names the nearest.
    """

    __slots__ = ()

    head: ClassVar[tuple[str, ...]]
    """Over the columns; the last takes the room that is left."""
    elsewhere: ClassVar[str]
    """Where a name may be listed that no row has, behind the refusal."""
    foot: ClassVar[str] = ""
    narrow: ClassVar[int | None] = None
    """A column that is folded to a fifth of the terminal."""

    def cells(self, row: Row) -> tuple[str, ...]:
        """What the columns say of one row."""
        raise NotImplementedError

    @overload
    def __getitem__(self, at: str | SupportsIndex) -> Row: ...

    @overload
    def __getitem__(self, at: slice) -> tuple[Row, ...]: ...

    def __getitem__(self, at: str | SupportsIndex | slice) -> Row | tuple[Row, ...]:
        if not isinstance(at, str):
            return super().__getitem__(at)
        rows = {row.name: row for row in self}
        name = _named(at)
        if name not in rows:
            raise UnknownNameError(f"no row {at!r}: {self.elsewhere}")
        return rows[name]

    def __contains__(self, at: object) -> bool:
        """Whether a row has that name, in any spelling, or is that row."""
        if not isinstance(at, str):
            return super().__contains__(at)
        try:
            return _named(at) in self.keys()
        except UnknownNameError:
            return False

    def keys(self) -> tuple[str, ...]:
        """The names, in the order of the rows."""
        return tuple(row.name for row in self)

    def __str__(self) -> str:
        lines = [self.head, *(self.cells(row) for row in self)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.head))]
        columns = shutil.get_terminal_size((120, 24)).columns
        if self.narrow is not None:
            widths[self.narrow] = min(widths[self.narrow], max(_LEAST, columns // 5))
        room = columns - sum(widths[:-1]) - 2 * len(widths[:-1])
        widths[-1] = max(room, _LEAST)
        rows = [text for line in lines for text in _wrapped(line, widths)]
        return "\n".join([*rows, *([self.foot] if self.foot else [])])


def _named(given: str) -> str:
    """The name of a row: of a wrapper its own, not that of it and its usual base."""
    name = names.canonical("optimizer", given)
    return name if "(" in given else name.partition("(")[0]


_LEAST = 12
"""Characters that are left to a column whatever the terminal has."""


def _wrapped(cells: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    """The lines of one row."""
    parts = [
        textwrap.wrap(cell, width, break_on_hyphens=False) for cell, width in zip(cells, widths, strict=True)
    ]
    for line in itertools.zip_longest(*parts, fillvalue=""):
        yield "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
