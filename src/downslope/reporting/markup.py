"""HTML in small pieces. Every text that comes from a user goes through `text`."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Section:
    """One section of the page.

    Attributes:
        id: Anchor, unique on the page.
        title: Heading.
        body: HTML.
        lead: One sentence under the heading, plain text.
        rank: Place on the page; smaller stands higher.
        short: Word in the bar at the top; "" leaves it out there.
    """

    id: str
    title: str
    body: str
    lead: str = ""
    rank: int = 50
    short: str = ""

    def html(self) -> str:
        """The section as HTML."""
        lead = f'<p class="lead">{text(self.lead)}</p>' if self.lead else ""
        head = f'<h2 id="{self.id}-title">{text(self.title)}</h2>'
        return f'<section id="{self.id}" aria-labelledby="{self.id}-title">{head}{lead}{self.body}</section>'


def text(value: object) -> str:
    """`value` as HTML text, quotes included, so that it may stand in an attribute too."""
    return html.escape(str(value), quote=True)


def data(value: Any) -> str:
    """`value` as JSON that may stand inside a script element: no ``<`` can end it."""
    written = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return written.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def tag(word: str, kind: str = "") -> str:
    """A small rounded label."""
    return f'<span class="tag {text(kind)}">{text(word)}</span>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, numeric: Sequence[int] = ()) -> str:
    """A table of HTML cells.

    Args:
        head: Titles, plain text.
        rows: Cells, HTML.
        numeric: Columns that are set to the right.
    """

    def cell(kind: str, index: int, content: str) -> str:
        extra = ' class="n"' if index in numeric else ""
        scope = ' scope="col"' if kind == "th" else ""
        return f"<{kind}{extra}{scope}>{content}</{kind}>"

    top = "".join(cell("th", i, text(each)) for i, each in enumerate(head))
    body = "".join(f"<tr>{''.join(cell('td', i, each) for i, each in enumerate(row))}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def pairs(rows: Iterable[tuple[str, object]]) -> str:
    """A table of names and values, both plain."""
    body = "".join(f'<tr><th scope="row">{text(k)}</th><td>{text(v)}</td></tr>' for k, v in rows)
    return f"<table><tbody>{body}</tbody></table>"


def empty(reason: str) -> str:
    """What stands where there is nothing to show: why."""
    return f'<p class="empty">{text(reason)}</p>'
