"""Numbers as people write them: with a sign of percent or money, thousands in groups, a decimal comma."""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections.abc import Sequence
from typing import NamedTuple

from downslope.data.csv_text import is_missing, number

MOSTLY = 0.95
"""A column with at least this share of numbers is numeric, and its other cells are missing."""

SIGNS = "%‰$€£¥₹₩₽₺₫₪฿"
"""What may stand before or behind every number of a column: shares, and what money is counted in."""

_ENGLISH = "$£¥₹₩฿"
"""Money of places that group thousands with commas."""

_BLANKS = re.compile("[\u00a0\u2007\u2009\u202f ]")
_SPOKEN = {",": "commas", ".": "points", " ": "blanks", "'": "apostrophes"}


class Written(NamedTuple):
    """How all numbers of a column are written."""

    decimal: str = "."
    """What a fraction follows."""
    group: str = ""
    """What stands between the groups of three digits; empty for none."""
    sign: str = ""
    """What stands before or behind each number, one of `SIGNS`; empty for none."""

    @property
    def plain(self) -> bool:
        """Whether Python reads such a number as it stands."""
        return self == Written()

    def read(self, cell: str) -> float | None:
        """The number that a cell spells, or None; percents stay percents, 12 of ``12%``."""
        if not self.group and not self.sign:
            return number(cell.replace("\u2212", "-"), self.decimal)
        bare = _bare(cell, self.sign)
        if bare is None:
            return None
        if _pattern(self.decimal, self.group).fullmatch(bare) is not None:
            return number(bare.replace(self.group, "") if self.group else bare, self.decimal)
        return None if self.sign or self.group in bare else number(bare, self.decimal)

    def said(self, cells: Sequence[str]) -> str:
        """The form in words, with the cell that shows most of it."""
        marks = (self.sign, self.group, self.decimal if self.decimal != "." else "")
        shown = max(cells, key=lambda cell: sum(bool(mark) and mark in _even(cell) for mark in marks))
        parts = [repr(self.sign)] if self.sign else []
        parts += [f"{_SPOKEN[self.group]} between thousands"] if self.group else []
        parts += ["a decimal comma"] if self.decimal == "," else []
        *first, last = parts
        form = f"{', '.join(first)} and {last}" if first else last
        return f"is written with {form}: {shown!r} is read as {self.read(shown)!r}"


def form_of(cells: Sequence[str], delimiter: str = ",") -> Written | None:
    """The form in which the cells of a column are numbers; None where it is text.

    All cells that are not missing have it, or all but a few (`MOSTLY`), and none of these few is a number
    without the sign that the others have: nobody knows whether ``0.05`` among ``5%`` means the same. Of
    several forms that which reads most cells is taken; of forms that read equally many the first, and
    ``1,234`` alone groups thousands in a table that commas delimit, or behind a dollar, and is a decimal
    comma in any other.

    Args:
        cells: Of the column, stripped.
        delimiter: What separates cells in the file.
    """
    present = [cell for cell in cells if not is_missing(cell)]
    if not present:
        return None
    sign = _sign_of(present)
    best, fewest = None, math.floor((1 - MOSTLY) * len(present)) + 1
    for each in _forms(sign, english=delimiter == "," or (bool(sign) and sign in _ENGLISH)):
        odd = list(itertools.islice((cell for cell in present if each.read(cell) is None), fewest))
        if len(odd) < fewest and not (sign and any(map(_bare_number, odd))):
            best, fewest = each, len(odd)
    return best


def left_as_text(cells: Sequence[str]) -> str | None:
    """What to do about texts of which some are numbers with a sign, in words; None for any other column."""
    present = [cell for cell in cells if not is_missing(cell)]
    held = "".join(present)
    signs = sorted(sign for sign in SIGNS if sign in held)
    if not signs or sum(_bare_number(cell.strip(SIGNS + " ")) for cell in present) < MOSTLY * len(present):
        return None
    return (
        f"looks like numbers, some of them with {' or '.join(map(repr, signs))}: write all with one sign, or "
        "all without, to have it as numbers"
    )


def mostly_numbers(cells: Sequence[str]) -> str | None:
    """What is to be said of a column of which more than half are plain numbers; None of any other."""
    present = [cell for cell in cells if not is_missing(cell)]
    words = [cell for cell in present if number(cell) is None]
    if not words or 2 * len(words) >= len(present):
        return None
    shown = ", ".join(repr(each) for each in list(dict.fromkeys(words))[:3])
    return (
        f"holds numbers but for {len(words) / len(present):.0%} of its cells, such as {shown}: leave these "
        "empty, and it is read as numbers"
    )


def _bare_number(cell: str) -> bool:
    return any(form.read(cell) is not None for form in _forms("", english=True))


def _forms(sign: str, *, english: bool) -> list[Written]:
    """Forms in the order in which they are tried."""
    points, commas = [Written(".", ",", sign)], [Written(",", "", sign), Written(",", ".", sign)]
    rest = [Written(decimal, group, sign) for group in " '" for decimal in ".,"]
    return [Written(".", "", sign), *(points + commas if english else commas + points), *rest]


def _sign_of(present: Sequence[str]) -> str:
    """The sign that almost all cells have; empty for none."""
    for sign in SIGNS:
        if sign in present[0] or sign in present[-1]:
            return sign if sum(sign in cell for cell in present) >= MOSTLY * len(present) else ""
    return ""


def _even(cell: str) -> str:
    """A cell with blanks, apostrophes and signs of one kind each."""
    return _BLANKS.sub(" ", cell).replace("\u2019", "'").replace("\u2212", "-")


def _bare(cell: str, sign: str) -> str | None:
    """A cell without its sign, which it has to have; in brackets it is negative, as in accounts."""
    text = _even(cell)
    negative = text.startswith("(") and text.endswith(")")
    text = text[1:-1].strip() if negative else text
    if sign:
        if text.count(sign) != 1 or not (text.lstrip("+-").startswith(sign) or text.endswith(sign)):
            return None
        text = text.replace(sign, "").strip()
        text = text[0] + text[1:].lstrip() if text.startswith(("+", "-")) else text
    if negative:
        return None if text.startswith(("+", "-")) else f"-{text}"
    return text


@functools.cache
def _pattern(decimal: str, group: str) -> re.Pattern[str]:
    fraction = rf"({re.escape(decimal)}\d*)?"
    if not group:
        return re.compile(rf"[+-]?(\d+{fraction}|{re.escape(decimal)}\d+)([eE][+-]?\d+)?")
    return re.compile(rf"[+-]?([1-9]\d{{0,2}}({re.escape(group)}\d{{3}})+|\d+){fraction}")
