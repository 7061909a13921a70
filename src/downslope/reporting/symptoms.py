"""Symptoms as one reads them: id, title, and what its file says of it; no torch is loaded here.

The text is the docstring of the symptom's own file, read and not imported.
"""

from __future__ import annotations

import ast
import textwrap
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType

_PAGES = "docs/symptoms"


@dataclass(frozen=True, kw_only=True)
class Described:
    """One symptom that `diagnose` and `watch` look for."""

    id: str
    title: str
    text: str
    """What a user sees, the mechanism, how it is known, what looks like it and is not, and the source."""

    @property
    def page(self) -> str:
        """Its page in the repository."""
        return f"{_PAGES}/{self.id}.md"


@cache
def described() -> dict[str, Described]:
    """Every symptom by its id."""
    folder = resources.files("downslope") / "diagnosis" / "symptoms"
    found: dict[str, Described] = {}
    for file in sorted(folder.iterdir(), key=lambda each: each.name):
        if file.name.endswith(".py"):
            tree = ast.parse(file.read_text(encoding="utf-8"))
            found |= {name: Described(id=name, title=title, text=_text(tree)) for name, title in _said(tree)}
    return found


def _said(tree: ast.Module) -> list[tuple[str, str]]:
    """Id and title of the symptoms that a file registers."""
    found: list[tuple[str, str]] = []
    for node in tree.body:
        for mark in node.decorator_list if isinstance(node, ast.FunctionDef) else ():
            if isinstance(mark, ast.Call) and isinstance(mark.func, ast.Name) and mark.func.id == "symptom":
                title = next(each.value for each in mark.keywords if each.arg == "title")
                found.append((ast.literal_eval(mark.args[0]), ast.literal_eval(title)))
    return found


def _text(tree: ast.Module) -> str:
    """The docstring without its line breaks, a paragraph a line."""
    said = ast.get_docstring(tree) or ""
    return "\n".join(" ".join(each.split()) for each in said.split("\n\n"))


def render(symptom: Described) -> RenderableType:
    """One symptom for the terminal."""
    from rich.console import Group
    from rich.text import Text

    rows = [
        ("run", "downslope diagnose FILE.py   downslope watch SCRIPT.py"),
        ("page", symptom.page),
    ]
    return Group(
        Text(f"{symptom.id}  {symptom.title}", style="bold"),
        Text("a symptom that diagnose and watch look for", style="dim"),
        Text(),
        *(Text(each) for each in textwrap.dedent(symptom.text).splitlines()),
        Text(),
        *(Text.assemble((f"{label:<9}", "dim"), value) for label, value in rows),
    )
