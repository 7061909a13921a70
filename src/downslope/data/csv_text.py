"""A text table cut into cells: encoding, delimiter, quotes and header found from the text itself."""

from __future__ import annotations

import codecs
import csv
import io
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from downslope.core import memory
from downslope.core.errors import DataError

DELIMITERS = (",", ";", "\t", "|")
MISSING = frozenset({
    "", "na", "n/a", "nan", "null", "none", "?", "-", "missing", ".", "--", "n.a.", "<na>", "#n/a", "#na",
    "#null!", "#value!", "#ref!", "#div/0!", "#num!",
})  # fmt: skip

GROWTH = 17
"""Bytes of memory that a byte of text takes while it is cut into cells; measured on cells of 7 characters."""

OPEN = "; a quote that opens there may not close where it should"
"""What is said of a broken row that takes more than one line."""

_KINDS = {
    b"PK\x03\x04": "an archive or a spreadsheet (zip)", b"%PDF": "a PDF", b"\x1f\x8b": "packed by gzip",
    b"\xd0\xcf\x11\xe0": "a spreadsheet of old Excel", b"PAR1": "a Parquet file named otherwise",
    b"\x89PNG": "an image", b"\xff\xd8\xff": "an image",
}  # fmt: skip
_WIDE = 3
"""Fields between two tabs from which on blanks separate the cells as well, as in the files of auto-mpg."""

_BLANKS = re.compile(r'"[^"]*"|\s+')
_WINDOWS = re.compile(rb"[\x80-\x9f]")
_EXCEL = re.compile(r"sep=.?[,;|]*(\r\n|\n|\r)", re.IGNORECASE)
_DATE = re.compile(r"(\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}([-/.])\d{1,2}\2\d{2,4})([T ].*)?")


class Cells(NamedTuple):
    """Rows of equally many cells, stripped, and the names of their columns."""

    names: list[str]
    rows: list[list[str]]
    lines: list[int]
    """The line of the file on which each row begins, counted from 1, for messages."""
    told: list[str]
    delimiter: str = ","
    doubts: tuple[str, ...] = ()
    """What of it is a guess, one sentence each; `told` has them too."""


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


def is_date(cell: str) -> bool:
    """Whether a cell looks like a day, with or without a time."""
    return _DATE.fullmatch(cell) is not None


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
    text, _ = without_comments(_text(path, told), told)
    delimiter = delimiter_of(text, told)
    rows, lines, spans = rows_of(path, text, delimiter)
    names, start, doubts = layout(path, rows, target)
    told += doubts
    _check_lengths(path, names, rows, lines, spans)
    if start == len(rows):
        raise DataError(f"{path.name} holds a header and no rows; at least one example is needed")
    return Cells(names, rows[start:], lines[start:], told, delimiter, tuple(doubts))


def layout(path: Path, rows: list[list[str]], target: str | None) -> tuple[list[str], int, list[str]]:
    """Names of the columns, how many rows hold them, and what of that is a guess.

    Raises:
        DataError: several columns with the target's name.
    """
    names, start = _header(rows, target)
    doubts: list[str] = []
    if not start:
        doubts.append(f"no header found: columns are named {names[0]} to {names[-1]}")
    elif all(number(cell) is not None for cell in rows[0]):
        doubts.append("the first row, all numbers, was taken as the header, as it holds the target's name")
    else:
        doubts += alike(path, rows[0], target)
    return names, start, doubts


def delimiter_of(text: str, told: list[str]) -> str:
    """What separates the cells of a text; it is told where it is no comma."""
    delimiter = _delimiter(text)
    if delimiter != ",":
        told.append(f"cells are separated by {_spoken(delimiter)}")
    return delimiter


def rows_of(path: Path, text: str, delimiter: str) -> tuple[list[list[str]], list[int], list[int]]:
    """Stripped cells of every row that has any, the line on which it begins, and how many lines it takes."""
    # Lines end where csv's own rules say so: str.splitlines would also cut at a form feed or a U+2028.
    source = io.StringIO(text, newline="")
    reader = reader_of(source, delimiter)
    rows: list[list[str]] = []
    lines: list[int] = []
    spans: list[int] = []
    line = 1
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if any(cells):
                rows.append(cells)
                lines.append(line)
                spans.append(reader.line_num + 1 - line)
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{path.name}, line {line}: {error}{OPEN}") from error
    if not rows:
        raise DataError(f"{path.name} holds no rows; a header and at least one example are needed")
    width = len(rows[0])
    if width > 1 and all(len(row) == width and not row[-1] for row in rows):
        rows = [row[:-1] for row in rows]  # every line ends with the delimiter
    return rows, lines, spans


def reader_of(source: Iterable[str], delimiter: str) -> Any:
    """Python's reader of a table; where the delimiter is a blank, runs of blanks and tabs count as one."""
    if delimiter == " ":
        return csv.reader(map(_tight, source), delimiter=" ")
    return csv.reader(source, delimiter=delimiter, skipinitialspace=True)


def separated_by_blanks(lines: list[str]) -> bool:
    """Whether lines are rows of equally many fields between blanks, two and a third of them numbers.

    The first may hold the names of the columns.
    """
    rows = [row for row in _rows(lines, " ") if row]
    if len(rows) < 2 or len({len(row) for row in rows}) > 1:
        return False
    numeric = sum(
        any(number(cell) is not None for cell in column)
        and all(is_missing(cell) or any(number(cell, d) is not None for d in ".,") for cell in column)
        for column in zip(*rows[1:], strict=True)
    )
    return numeric >= 2 and 3 * numeric >= len(rows[0])


def without_comments(text: str, told: list[str]) -> tuple[str, int]:
    """A table whose first lines, where they begin with ``#``, are empty, and how many these are.

    So is the line in which Excel names the delimiter (``sep=;``). The last of the comments stays where it has
    as many cells as the row below: it names the columns.
    """
    if found := _EXCEL.match(text):
        told.append("the line of Excel that names the delimiter skipped")
        return f"\n{text[found.end() :]}", 1
    lines = list(io.StringIO(text, newline="")) if text.startswith("#") else []
    count = sum(1 for _ in itertools.takewhile(lambda line: line.startswith("#"), lines))
    if not 0 < count < len(lines):
        return text, 0
    delimiter = _delimiter("".join(lines[count:]))
    widths = [len(row) for row in _rows(lines[count - 1 : count + 1], delimiter)]
    count -= len(set(widths)) == 1
    if count:
        told.append(f"{count} line{'' if count == 1 else 's'} of comment (#) at the start skipped")
    return "".join(["\n"] * count + lines[count:]), count


def _tight(line: str) -> str:
    return _BLANKS.sub(lambda found: found[0] if found[0].startswith('"') else " ", line.strip())


def _rows(lines: list[str], delimiter: str) -> Iterator[list[str]]:
    with suppress(csv.Error):  # a cell beyond csv's limit: what was cut by then decides
        yield from reader_of(lines, delimiter)


def _text(path: Path, told: list[str]) -> str:
    try:
        memory.refuse_beyond(
            path.name, path.stat().st_size * GROWTH, "convert it to .npz, or give a Dataset that reads parts"
        )
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    if not raw.strip():
        raise DataError(f"{path.name} is empty; a header and at least one example are needed")
    return raw.decode(encoding_of(path, raw, told), errors="replace")


def encoding_of(path: Path, raw: bytes, told: list[str]) -> str:
    """The encoding of a text, or of its beginning; it is told where it is not UTF-8.

    Raises:
        DataError: no text, or a page of the web.
    """
    if raw.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "utf-32"
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    for start, kind in _KINDS.items():
        if raw.startswith(start):
            raise DataError(f"{path.name} is {kind}, no table of text; save the table in it as .csv")
    if b"\0" in raw[:65536]:
        raise DataError(f"{path.name} is no text file; .csv needs text, arrays belong in .npz or .pt")
    if re.match(rb'\s*(\[\s*)?\{\s*"[^"]*"\s*:', raw[:512]):
        raise DataError(
            f"{path.name} is JSON, no table; of a list of records pandas makes one: "
            "read_json(path).to_csv('table.csv', index=False)"
        )
    if re.match(rb"\s*<(!doctype html|html|\?xml)", raw[:512], re.IGNORECASE):
        raise DataError(
            f"{path.name} is a page of the web or XML, no table; where it came from, take the link of the "
            "file itself"
        )
    try:
        raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if error.start < len(raw) - 3 or "unexpected end" not in error.reason:  # else a cut beginning
            # Windows fills with letters what Latin-1 leaves to control characters.
            encoding, name = ("cp1252", "Windows-1252") if _WINDOWS.search(raw) else ("latin-1", "Latin-1")
            told.append(f"the text is not UTF-8 and was read as {name}")
            return encoding
    return "utf-8-sig"


def _delimiter(text: str) -> str:
    """The delimiter that cuts the first 50 lines into the most equal and then the most cells."""
    lines = itertools.islice(io.StringIO(text, newline=""), 200)
    head = [line for line in lines if line.strip()][:50]
    best, score = ",", (0.0, 1)
    for delimiter in DELIMITERS:
        counts = Counter(len(row) for row in _rows(head, delimiter))
        if not counts:
            continue
        width, agreeing = max(counts.items(), key=lambda item: (item[1], item[0]))
        share = agreeing / sum(counts.values())
        if width > 1 and (share, width) > score:
            best, score = delimiter, (share, width)
    both = best == "\t" and max(len(cell.split()) for cell in head[-1].split("\t")) >= _WIDE
    return " " if (score[0] < 1 or both) and separated_by_blanks(head) else best


def _header(rows: list[list[str]], target: str | None) -> tuple[list[str], int]:
    """The names of the columns, and the index of the first row of data."""
    first = rows[0]
    below = rows[1:201]
    if target in first or _names_its_columns(first, below):
        return told_apart(first), 1
    return [f"column{i + 1}" for i in range(len(first))], 0


def told_apart(header: list[str]) -> list[str]:
    """Names of columns, each once: the second of two is called ``name.2``, one without any by its place."""
    names = [cell or f"column{i + 1}" for i, cell in enumerate(header)]
    seen: Counter[str] = Counter()
    for i, name in enumerate(names):
        seen[name] += 1
        names[i] = name if seen[name] == 1 else f"{name}.{seen[name]}"
    return names


def alike(path: Path, header: list[str], target: str | None) -> list[str]:
    """What is to be said of columns with the same name; of two targets nobody knows which is meant."""
    again = [name for name, count in Counter(cell for cell in header if cell).items() if count > 1]
    if target in again:
        raise DataError(
            f"{path.name} has {header.count(target or '')} columns named {target!r}: the target must be one; "
            "rename or remove the others"
        )
    return [f"{header.count(each)} columns named {each!r}: the second is called {each}.2" for each in again]


def _names_its_columns(first: list[str], below: list[list[str]]) -> bool:
    """Whether a first row holds no number, over a column of numbers or over values that it does not share."""
    if any(number(cell) is not None for cell in first if cell) or not any(first):
        return False
    columns = list(itertools.zip_longest(*below, fillvalue=""))[: len(first)]
    filled = [[cell for cell in column if not is_missing(cell)] for column in columns]
    if any(column and number(column[0]) is not None for column in filled):
        return True
    return not any(cell in column for cell, column in zip(first, filled, strict=False))


def _check_lengths(
    path: Path, names: list[str], rows: list[list[str]], lines: list[int], spans: list[int]
) -> None:
    for row, line, span in zip(rows, lines, spans, strict=True):
        if len(row) != len(names):
            raise wrong_length(path, line, len(row), len(names), span)


def wrong_length(path: Path, line: int, found: int, wanted: int, span: int) -> DataError:
    """What is to be said of a row of `found` cells that takes `span` lines."""
    hint = OPEN if span > 1 else "; put cells that contain the delimiter in double quotes"
    return DataError(f"{path.name}, line {line}: {found} cells where the first row has {wanted}{hint}")


def _spoken(delimiter: str) -> str:
    return {"\t": "tabs", " ": "blanks"}.get(delimiter, repr(delimiter))
