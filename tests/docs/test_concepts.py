"""The promise of docs/concepts.toml: every row is there, and what a built row points to exists."""

from __future__ import annotations

import re

import pytest

from downslope.reporting import concepts
from downslope.reporting.concepts import Concept
from tests.docs.commands import (
    DOCS,
    link_exists,
    names_a_test,
    names_below_ds,
    resolves,
    unknown_commands,
)

ROWS = concepts.load()
BUILT = [row for row in ROWS if row.built]
SECTIONS = {
    "Three entities": 6,
    "Learning is not pure optimisation": 4,
    "Convexity": 3,
    "Descent": 7,
    "Terrain": 7,
    "Start and normalisation": 5,
    "Regularisation and transfer": 2,
    "Tuning": 2,
    "Second order": 2,
}


def faults(row: Concept) -> list[str]:
    """What keeps `row` from being built, in words."""
    found: list[str] = []
    if not row.command.strip():
        found.append("has no command")
    elif row.command.startswith("downslope "):
        found += [f"command `downslope {verb}` does not exist" for verb in unknown_commands(row.command)]
    else:
        if len(row.command.strip().splitlines()) > 3:
            found.append("has more than three lines of Python")
        try:
            names = names_below_ds(row.command)
        except SyntaxError as error:
            return [*found, f"command is no Python: {error.msg}"]
        found += [f"command uses ds.{name}, which does not exist" for name in names if not resolves(name)]
    if row.picture and not (DOCS / row.picture).is_file():
        found.append(f"picture docs/{row.picture} does not exist")
    if not row.test or not names_a_test(row.test):
        found.append(f"test {row.test!r} does not exist")
    if not row.guide or not link_exists(row.guide):
        found.append(f"guide {row.guide!r} does not exist")
    for meaning in row.symbols.values():
        for name in re.findall(r"\bds\.([A-Za-z_.]*[A-Za-z_])", meaning):
            if not resolves(name):
                found.append(f"symbol stands for ds.{name}, which does not exist")
    return found


def test_all_rows_are_there_in_order() -> None:
    assert [row.id for row in ROWS] == list(range(1, 39))
    counted = {title: len(rows) for title, rows in concepts.sections()}
    assert counted == SECTIONS


def test_no_word_leads_to_two_rows() -> None:
    words = [word for row in ROWS for word in (row.name, *row.also)]
    assert sorted(words) == sorted(set(words))
    for word in words:
        assert re.fullmatch(r"[a-z][a-z0-9-]*", word), word


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_row_says_something_whether_or_not_it_is_built(row: Concept) -> None:
    assert row.status in ("built", "not built yet")
    assert row.title
    assert row.formula
    assert row.symbols
    assert len(row.text.split()) >= 30
    assert "  " not in row.text


@pytest.mark.parametrize("row", BUILT, ids=lambda row: row.name)
def test_what_a_built_row_points_to_exists(row: Concept) -> None:
    assert faults(row) == []


def test_the_page_in_the_repository_is_the_one_generated() -> None:
    kept = (DOCS / "concepts.md").read_text(encoding="utf-8")
    assert kept == concepts.page(), "docs/concepts.md is not up to date: run `make docs`"


def row_with(**changes: object) -> Concept:
    """A row that would pass, but for `changes`."""
    fields = {
        "id": 1,
        "section": "s",
        "name": "n",
        "also": (),
        "title": "t",
        "text": "x",
        "formula": "f",
        "symbols": {"a": "ds.Recipe(lr=...)"},
        "command": "import downslope as ds\nds.Recipe(lr=0.1)",
        "picture": "",
        "test": "tests/docs/test_concepts.py::test_all_rows_are_there_in_order",
        "guide": "concepts.md#concepts",
        "status": "built",
    }
    return Concept(**{**fields, **changes})  # type: ignore[arg-type]


def test_a_row_without_fault_has_none() -> None:
    assert faults(row_with()) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"command": ""}, "has no command"),
        ({"command": "downslope levitate"}, "downslope levitate"),
        ({"command": "ds.levitate(1)"}, "ds.levitate"),
        ({"command": "ds.Recipe(("}, "no Python"),
        ({"command": "a = 1\nb = 2\nc = 3\nd = 4"}, "more than three"),
        ({"picture": "pictures/absent.png"}, "picture"),
        ({"test": ""}, "test"),
        ({"test": "tests/docs/test_concepts.py::test_absent"}, "test"),
        ({"guide": "concepts.md#absent"}, "guide"),
        ({"guide": "absent.md"}, "guide"),
        ({"symbols": {"a": "ds.levitate"}}, "symbol"),
    ],
)
def test_the_check_finds_each_kind_of_fault(changes: dict[str, object], said: str) -> None:
    found = faults(row_with(**changes))
    assert len(found) == 1, found
    assert said in found[0]


def test_every_chapter_leads_to_its_neighbours_and_to_all_chapters() -> None:
    chapters = sorted((DOCS / "guide").glob("[0-9]*.md"))
    for index, chapter in enumerate(chapters):
        header = chapter.read_text(encoding="utf-8").split("\n\n")[1]
        links = re.findall(r"\]\(([^)]+)\)", header)
        beside = [*chapters[max(index - 1, 0) : index], *chapters[index + 1 : index + 2]]
        assert links[: len(beside) + 1] == [*(each.name for each in beside), "../README.md"], chapter.name
