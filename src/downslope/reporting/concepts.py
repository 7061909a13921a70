"""Concepts: what Downslope teaches by doing, one row each, from ``concepts.toml``.

``downslope concepts`` lists the rows and ``downslope concepts NAME`` shows one; ``docs/concepts.md`` is
generated from the same rows by ``python -m downslope.reporting.concepts FILE``. No torch is loaded here.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from downslope.core.errors import UnknownNameError
from downslope.core.names import did_you_mean
from downslope.reporting.symptoms import described
from downslope.reporting.symptoms import render as symptom_as_text

if TYPE_CHECKING:
    from rich.console import RenderableType

Status = Literal["built", "not built yet"]


@dataclass(frozen=True, kw_only=True)
class Concept:
    """One concept of the optimisation of deep models, and where Downslope shows it."""

    id: int
    """Its number, from 1 on, in the order in which it is best read."""
    section: str
    """Title of the group it belongs to."""
    name: str
    """Short and stable, such as ``closed-form``."""
    also: tuple[str, ...]
    """Other words by which it is found, such as ``svd``."""
    title: str
    text: str
    """What it says, as one paragraph."""
    formula: str
    """In plain text; several are separated by semicolons."""
    symbols: dict[str, str]
    """Symbol of the formula to its name in the API."""
    command: str
    """One ``downslope ...`` line or at most three lines of Python; empty where not built."""
    picture: str
    """File relative to ``docs/``, made from a real run; empty where there is none."""
    test: str
    """pytest node id; empty where not built."""
    guide: str
    """``file#anchor`` relative to ``docs/``; empty where not written."""
    status: Status

    @property
    def built(self) -> bool:
        """True if the command can be run today."""
        return self.status == "built"

    @property
    def symptoms(self) -> list[str]:
        """Ids of the symptoms that bear its name, or another word for it: those are looked for today."""
        return [word for word in (self.name, *self.also) if word in described()]


def _source() -> str:
    """The rows' text: beside the package in an installed wheel, below ``docs/`` in a checkout."""
    packaged = resources.files("downslope") / "concepts.toml"
    if packaged.is_file():
        return packaged.read_text(encoding="utf-8")
    checkout = Path(__file__).resolve().parents[3] / "docs" / "concepts.toml"
    return checkout.read_text(encoding="utf-8")


@cache
def _rows() -> tuple[Concept, ...]:
    rows: list[dict[str, Any]] = tomllib.loads(_source())["concept"]
    for row in rows:
        row["also"] = tuple(row["also"])
    return tuple(Concept(**row) for row in rows)


def load() -> list[Concept]:
    """Every concept, in the order of its number."""
    return list(_rows())


def as_spelt(name: str | int) -> str:
    """A name in the form that the rows have."""
    return str(name).strip().lower().replace(" ", "-").replace("_", "-")


def words() -> dict[str, Concept]:
    """Every concept by its name and its other words."""
    return {word: concept for concept in _rows() for word in (concept.name, *concept.also)}


def find(name: str | int) -> Concept:
    """The concept with that name, other word, or number; case, blanks and ``_`` do not matter.

    Raises:
        UnknownNameError: there is none; the message names the nearest.

    Example:
        >>> find("adam").name
        'adaptive-rates'
    """
    spelt = as_spelt(name)
    known = words()
    numbers = {str(concept.id): concept for concept in _rows()}
    found = known.get(spelt) or numbers.get(spelt)
    if found is None:
        if spelt.lstrip("-").isdigit():
            raise UnknownNameError(f"concept {spelt}: they are numbered from 1 to {len(numbers)}")
        within = [row.name for title, rows in sections() if as_spelt(title) == spelt for row in rows]
        if within:
            raise UnknownNameError(f"{str(name)!r} is a section; its concepts are {', '.join(within)}")
        near = [*known, *described()]
        nearest = did_you_mean(spelt, near if len(spelt) > 1 else [row.name for row in _rows()])
        hint = nearest if nearest.startswith("; did") else "; `downslope concepts` lists them"
        raise UnknownNameError(f"concept {str(name)!r} is not known{hint}")
    return found


def sections() -> Iterator[tuple[str, list[Concept]]]:
    """Title and concepts of each section, in order."""
    for title, rows in groupby(_rows(), key=lambda concept: concept.section):
        yield title, list(rows)


def render_list() -> RenderableType:
    """All concepts as a table for the terminal; a hollow mark stands before what is not built yet."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(justify="right")
    table.add_column()
    table.add_column(no_wrap=True)
    table.add_column()
    for title, rows in sections():
        table.add_row("", "", Text(title, style="bold"), "")
        for concept in rows:
            mark = "●" if concept.built else "◐" if concept.symptoms else "○"
            cells = (str(concept.id), mark, concept.name, concept.title)
            table.add_row(*map(Text, cells), style="dim" if mark == "○" else "")
    marks = "● can be run today   ◐ diagnosed today, its lesson is not built yet   ○ not built yet"
    more = "downslope concepts NAME shows one, and each symptom by its id"
    return Group(table, Text(marks), Text(more))


def render(concept: Concept) -> RenderableType:
    """One concept for the terminal: what it says, its formula, its symbols, what to run."""
    from rich.console import Group
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    symbols = Table(box=None, pad_edge=False, show_header=False)
    for symbol, meaning in concept.symbols.items():
        symbols.add_row(Text(symbol, style="cyan"), Text(meaning))
    formula = Text("\n".join(part.strip() for part in concept.formula.split(";  ")), style="cyan")
    places = [Text.assemble((f"{label:<9}", "dim"), value) for label, value in _places(concept)]
    for each in places:  # a line break of ours would break what is copied
        each.no_wrap, each.overflow = True, "ignore"
    return Group(
        Text(f"{concept.id}  {concept.title}", style="bold"),
        Text(concept.section, style="dim"),
        Text(),
        Text(concept.text),
        Padding(formula, (1, 2)),
        Padding(symbols, (0, 2, 1, 2)),
        *places,
        *(part for name in concept.symptoms for part in (Text(), symptom_as_text(described()[name]))),
    )


def _places(concept: Concept) -> Iterator[tuple[str, str]]:
    """Label and content of what a concept points to, without what is not there."""
    if not concept.built:
        below = bool(concept.symptoms)
        yield "status", f"its lesson is {concept.status}; its symptom is below" if below else concept.status
    for label in ("command", "picture", "test", "guide"):
        value: str = getattr(concept, label)
        if value:
            inside = "docs/" if label in ("picture", "guide") else ""
            yield ("run" if label == "command" else label), inside + value


def page() -> str:
    """The Markdown page that is kept as ``docs/concepts.md``."""
    rows = _rows()
    built = sum(concept.built for concept in rows)
    lines = [
        "# Concepts",
        "",
        "<!-- Generated from concepts.toml by `make docs`; edit that file. -->",
        "",
        "What Downslope teaches by doing. Each concept has its formula with the symbols mapped to names, a",
        "command to run, a test against something independent and, where one helps, a picture made from a",
        "real run. `downslope concepts` lists them and `downslope concepts NAME` shows one. Of these",
        f"{len(rows)}, {built} can be run today; a row that is not built yet says so.",
    ]
    for title, group in sections():
        lines += ["", f"## {title}"]
        for concept in group:
            lines += ["", *_entry(concept)]
    return "\n".join(lines) + "\n"


def _entry(concept: Concept) -> Iterator[str]:
    """Lines of one concept on the page."""
    yield f'<a id="{concept.name}"></a>'
    yield ""
    yield f"### {concept.id}. {concept.title}"
    yield ""
    yield f"`{concept.name}`" + ("" if concept.built else " · *not built yet*")
    yield ""
    yield concept.text
    yield ""
    yield "```text"
    yield from (part.strip() for part in concept.formula.split(";  "))
    yield "```"
    yield ""
    yield "| symbol | name |"
    yield "|---|---|"
    for symbol, meaning in concept.symbols.items():
        is_code = meaning.startswith(("ds.", "run.", "parameter."))
        yield f"| {_cell(symbol)} | {_cell(meaning) if is_code else meaning} |"
    if concept.command:
        yield ""
        yield "```console" if concept.command.startswith("downslope ") else "```python"
        yield concept.command.strip()
        yield "```"
    if concept.picture:
        yield ""
        yield f"![{concept.title}]({concept.picture})"
    where = [f"guide: [{concept.guide}]({concept.guide})"] if concept.guide else []
    where += [f"test: `{concept.test}`"] if concept.test else []
    if where:
        yield ""
        yield " · ".join(where)


def _cell(text: str) -> str:
    """`text` as code in a table's cell, in which a bar must be escaped."""
    escaped = text.replace("|", "\\|")
    return f"`{escaped}`"


def _write(arguments: list[str]) -> int:
    """Write the page to the file named, or to standard output."""
    if arguments:
        Path(arguments[0]).write_text(page(), encoding="utf-8")
    else:
        sys.stdout.write(page())
    return 0


if __name__ == "__main__":
    sys.exit(_write(sys.argv[1:]))
