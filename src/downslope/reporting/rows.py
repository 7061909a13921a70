"""Terminal rows: a label, a text, a tone. Plain text anywhere, colours only on a terminal."""

from __future__ import annotations

import os
import shutil
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TextIO

if TYPE_CHECKING:
    from rich.text import Text

Tone = Literal["plain", "strong", "good", "bad", "warn", "faint"]

LABEL = 8
"""Columns that a label takes."""

_STYLES: dict[Tone, str] = {
    "plain": "",
    "strong": "bold",
    "good": "bold green",
    "bad": "bold red",
    "warn": "bold yellow",
    "faint": "dim",
}


@dataclass(frozen=True)
class Row:
    """One line of a result, wrapped under itself where the terminal is narrow.

    Attributes:
        text: What is said.
        label: Word in front of it, padded to `LABEL` columns; "" for none.
        tone: How it is meant.
        indent: Columns before the label or, without one, before the text.
        whole: Never broken over lines, so that a command or a path can be copied.
    """

    text: str
    label: str = ""
    tone: Tone = "plain"
    indent: int = 0
    whole: bool = False

    def lines(self, width: int) -> list[str]:
        """The row as plain lines of at most `width` columns (a longer word is not broken)."""
        lead = " " * self.indent
        if self.label:
            lead = f"{lead + self.label:<{LABEL}}"
            lead += "" if lead.endswith(" ") else " "
        if self.whole:
            return [lead + self.text]
        hang = " " * (len(lead) if self.label else self.indent + 2)
        return textwrap.wrap(
            self.text,
            width=max(width, 32),
            initial_indent=lead,
            subsequent_indent=hang,
            break_long_words=False,
            break_on_hyphens=False,
        ) or [lead.rstrip()]


def render(rows: Sequence[Row], width: int = 100) -> str:
    """Rows as plain text, one or more lines each, no line with trailing blanks."""
    return "\n".join(line.rstrip() for row in rows for line in row.lines(width))


def styled(rows: Sequence[Row], width: int = 100) -> Text:
    """Rows as a rich Text: labels strong, texts in their tone. Its `plain` equals `render`."""
    from rich.text import Text

    text = Text(no_wrap=True, overflow="ignore")
    for count, row in enumerate(rows):
        for index, line in enumerate(row.lines(width)):
            if count or index:
                text.append("\n")
            line = line.rstrip()
            head = 0 if index or not row.label else row.indent + len(row.label)
            text.append(line[:head], style="bold" if not row.indent else "dim")
            text.append(line[head:], style=_STYLES[row.tone])
    return text


def write(rows: Sequence[Row], stream: TextIO) -> None:
    """Rows to `stream`: with colour on a terminal, else as plain text.

    The environment variables ``NO_COLOR`` and ``COLUMNS`` are heeded. Lines are as wide as the terminal, 100
    columns elsewhere.
    """
    if not rows:
        return
    if not stream.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        width = shutil.get_terminal_size((100, 24)).columns if stream.isatty() else _asked_for() or 100
        print(_encodable(render(rows, width), stream), file=stream, flush=True)
        return
    from rich.console import Console

    console = Console(file=stream, highlight=False, soft_wrap=True)
    console.print(styled(rows, console.width), soft_wrap=True)


def _asked_for() -> int:
    """The width that ``COLUMNS`` gives; 0 where it says none."""
    said = os.environ.get("COLUMNS", "")
    return int(said) if said.isdecimal() else 0


def _encodable(text: str, stream: TextIO) -> str:
    """`text` in what the stream's encoding can hold; a terminal in ASCII must not end a run."""
    encoding = stream.encoding or "utf-8"
    return text.encode(encoding, errors="replace").decode(encoding)
