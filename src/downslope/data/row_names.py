"""Columns that only name their rows (counters, saved indices, identifiers) and tell nothing of a new row."""

from __future__ import annotations

import re

import numpy as np

from downslope.data.columns import Numbers

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|#")
_IDENTIFIER = frozenset({"id", "ids", "uuid", "guid", "rowid"})
_JOINED = re.compile(
    r"(user|customer|client|passenger|patient|subject|person|member|employee|student|order|transaction|record|"
    r"sample|case|item|product|object|event|session|device|loan|account|invoice|ticket|post|tweet)ids?"
)
_UNNAMED = "column 1"
_PLACE = frozenset({
    _UNNAMED, "unnamed 0", "level 0", "index level 0", "index", "idx", "row", "rows", "row index", "rownames",
    "row names", "rownum", "row num", "row number", "row no", "#", "no", "nr", "s no", "sno", "sl no",
    "serial no", "serial number",
})  # fmt: skip
_YEARS = (1500, 2200)
_WHOLE = 2**53
"""Whole numbers beyond have no float64 of their own."""


def may_name_rows(name: str) -> bool:
    """Whether a column called so may name its rows; its values decide (`why_row_name`), in full precision."""
    words = _words(name)
    return _is_identifier(words) or " ".join(words) in _PLACE


def why_row_name(name: str, values: Numbers, *, headed: bool = True) -> str | None:
    """What a column of numbers does instead of measuring, in words; None where it may measure something.

    Values alone cannot tell: a time in seconds, a year or a price is a whole number that differs from row to
    row and may rise by one. So the name has to say it, and the values must not contradict:

    - an identifier has the word *id*, *uuid* or *guid* in its name (``id``, ``user_id``, ``PassengerId``,
      ``customerid``), and whole numbers of which more than half are different. One that recurs twice or more
      on average stands for a group, as a customer does among orders, and is kept, unless its numbers are
      beyond 2**53, where many have the same float64;
    - a place in a table is called ``index``, ``row``, ``no``, ``Unnamed: 0`` and the like, or stands first
      without a name. It holds whole numbers, all different, that rise by one from row to row (and are no
      years), or of which the least is at least 0 and less than there are rows, as those of a data frame that
      was shuffled or cut;
    - the first column of a file without a header counts from 0 or 1.

    A column called anything else is kept, whatever it holds.

    Args:
        name: Of the column.
        values: Shape (n,); NaN where a cell is missing.
        headed: Whether the file named its columns.
    """
    words = _words(name)
    identifier = _is_identifier(words)
    if not identifier and " ".join(words) not in _PLACE:
        return None
    there = values[~np.isnan(values)]
    if len(there) < 3 or not bool(np.isfinite(there).all()) or bool((there != np.round(there)).any()):
        return None
    low, distinct = float(there.min()), len(np.unique(there))
    counts = len(there) == len(values) and bool((np.diff(there) == 1).all())
    if identifier and float(np.abs(there).max()) > _WHOLE:
        return "names its rows by numbers too large to tell apart"
    if identifier and not counts:
        many = 2 * distinct > len(there)
        return f"names its rows by {distinct} different numbers" if many else None
    if not headed:
        counts, saved = counts and low in (0, 1), False
    else:
        saved = distinct == len(there) and 0 <= low < len(values)
        counts = counts and (identifier or not _YEARS[0] <= low <= float(there.max()) <= _YEARS[1])
    return "only counts the rows" if counts or saved else None


def _words(name: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(name)]


def _is_identifier(words: list[str]) -> bool:
    return any(word in _IDENTIFIER or _JOINED.fullmatch(word) for word in words)
