"""HTML in small pieces. Every text that comes from a user goes through `text`."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Mapping, Sequence
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
        folded: Shown as its heading alone until it is opened.
        page: Title of a page that begins with it; "" takes the heading.
        about: Under that title: when it was, where it is kept.
    """

    id: str
    title: str
    body: str
    lead: str = ""
    rank: int = 50
    short: str = ""
    folded: bool = False
    page: str = ""
    about: str = ""

    def html(self) -> str:
        """The section as HTML."""
        lead = f'<p class="lead">{text(self.lead)}</p>' if self.lead else ""
        head = f'<h2 id="{self.id}-title">{text(self.title)}</h2>'
        body = lead + self.body
        if self.folded:
            body = f'<details class="fold"><summary>{head}</summary>{body}</details>'
        else:
            body = head + body
        return f'<section id="{self.id}" aria-labelledby="{self.id}-title">{body}</section>'


def text(value: object) -> str:
    """`value` as HTML text, quotes included, so that it may stand in an attribute too."""
    return html.escape(str(value), quote=True)


def edited(value: object) -> str:
    """An edit as HTML text: "lr 0.1 -> 0.01" with a proper arrow."""
    return text(value).replace("-&gt;", "\u2192")


def data(value: Any) -> str:
    """`value` as JSON that may stand inside a script element: no ``<`` can end it."""
    written = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return written.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def tag(word: str, kind: str = "") -> str:
    """A small rounded label."""
    return f'<span class="tag {text(kind)}">{text(word)}</span>'


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    numeric: Sequence[int] = (),
    marked: Mapping[int, str] | None = None,
) -> str:
    """A table of HTML cells; on a narrow page each row becomes a block with its titles beside the values.

    Args:
        head: Titles, plain text.
        rows: Cells, HTML.
        numeric: Columns that are set to the right.
        marked: Rows with a class of their own.
    """

    def cell(index: int, content: str) -> str:
        extra = ' class="n"' if index in numeric else ""
        return f'<td{extra} data-title="{text(head[index])}">{content}</td>'

    def row(index: int, cells: Sequence[str]) -> str:
        kind = f' class="{text(marked[index])}"' if marked and index in marked else ""
        return f"<tr{kind}>{''.join(cell(i, each) for i, each in enumerate(cells))}</tr>"

    titles = "".join(
        f'<th scope="col"{" class=n" if index in numeric else ""}>{text(each)}</th>'
        for index, each in enumerate(head)
    )
    body = "".join(row(index, cells) for index, cells in enumerate(rows))
    return f'<table class="stack"><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table>'


def pairs(rows: Iterable[tuple[str, object]]) -> str:
    """A table of names and values, both plain."""
    body = "".join(f'<tr><th scope="row">{text(k)}</th><td>{text(v)}</td></tr>' for k, v in rows)
    return f'<table class="pairs"><tbody>{body}</tbody></table>'


def empty(reason: str) -> str:
    """What stands where there is nothing to show: why."""
    return f'<p class="empty">{text(reason)}</p>'
