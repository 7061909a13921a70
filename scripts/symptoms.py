"""Keep docs/symptoms in step with the code: ``python -m scripts.symptoms [ID ...]``.

Three things on the pages are written here, each between two marks, and nowhere else: the limits, from
the constants of the symptom's file and their docstrings; what the code of the page prints; and the table of
README.md, from the registry. Without ids source and limits of all pages are written; with ids, what their
code prints as well.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import inspect
import io
import re
import sys
import textwrap
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from downslope.diagnosis import progress, proof, unfinished
from downslope.diagnosis.symptom import GROUPS, Symptom, registry

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "symptoms"
END = "<!-- end -->"
LIMITS = "<!-- limits: written by `python -m scripts.symptoms` -->"
COMMON = "<!-- common: written by `python -m scripts.symptoms` -->"
INDEX = "<!-- index: written by `python -m scripts.symptoms` -->"
CODE = re.compile(r"^```python\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
TOLD = re.compile(r"(^```python\n.*?^```\n\n```text\n)(.*?)(^```\n)", re.MULTILINE | re.DOTALL)
_WIDTH = 118
_GROUPS = {
    "data": "Data",
    "output": "Output and objective",
    "model": "Model and start",
    "step": "Step",
    "terrain": "Terrain",
    "generalisation": "Generalisation",
}


class Limit(NamedTuple):
    """A constant that decides."""

    name: str
    value: str
    meaning: str


def limits(symptom: Symptom) -> list[Limit]:
    """The numbers that a symptom decides by: its own constants, and those that it imports."""
    return _constants(importlib.import_module(symptom.check.__module__))


def _constants(module: ModuleType, wanted: frozenset[str] | None = None) -> list[Limit]:
    """Constants of `module` in the order of the file; imported ones are looked up where they are written."""
    body = ast.parse(inspect.getsource(module)).body
    found: list[Limit] = []
    for node, after in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("downslope"):
            names = frozenset(each.name for each in node.names if each.name.isupper())
            names = names if wanted is None else names & wanted
            found += _constants(importlib.import_module(node.module), names) if names else []
        elif isinstance(node, ast.Assign):
            target = node.targets[0]
            names_ = [each.id for each in getattr(target, "elts", [target]) if isinstance(each, ast.Name)]
            shown = all(name.isupper() and not name.startswith("_") for name in names_)
            if not shown or (wanted is not None and not wanted & set(names_)):
                continue
            values = [getattr(module, name) for name in names_]
            if all(isinstance(each, int | float) for each in values):
                said = after.value.value if _is_text(after) else ""  # type: ignore[union-attr]
                meaning = " ".join(str(said).split())
                found.append(Limit(", ".join(names_), ", ".join(f"{v:g}" for v in values), meaning))
    return found


def _is_text(node: ast.stmt | None) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def facts(symptom: Symptom) -> str:
    """Its place, its source and its limits, as Markdown."""
    order = list(registry())
    place = f"{order.index(symptom.id) + 1} of {len(order)}, in the group *{_GROUPS[symptom.order[0]]}*"
    said = f"Source: {symptom.source}. Place in the order of causes: {place}."
    rows = [_row(each) for each in limits(symptom)]
    return "\n".join([_filled(said), *([""] if rows else []), *rows])


def _filled(text: str, indent: str = "") -> str:
    return textwrap.fill(text, 128, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def common() -> str:
    """The limits of the gate and of the trial, which all symptoms share, as Markdown."""
    shared = (progress, proof, unfinished)
    return "\n".join(_row(each) for module in shared for each in _constants(module))


def _row(limit: Limit) -> str:
    return _filled(f"- `{limit.name}` = {limit.value}: {limit.meaning}", "  ")


def index() -> str:
    """The table of all symptoms, by groups in causal order, as Markdown."""
    known = registry()
    lines = ["| group | symptom | in plain words | can bring about |", "|---|---|---|---|"]
    for group in GROUPS:
        title = _GROUPS[group]
        for each in known.values():
            if each.order[0] != group:
                continue
            follows = ", ".join(_followed(each))
            lines.append(f"| {title} | [`{each.id}`]({each.id}.md) | {each.title} | {follows} |")
            title = ""
    return "\n".join(lines)


def _followed(symptom: Symptom) -> list[str]:
    """What it explains: whole groups by their names, ids as they are."""
    groups = [f"*{_GROUPS[each].lower()}*" for each in GROUPS if each in symptom.explains]
    return groups + [each for each in symptom.explains if each not in GROUPS]


def between(text: str, mark: str, body: str) -> str:
    """`text` with `body` between `mark` and the end that follows it.

    Raises:
        ValueError: the marks are not there.
    """
    before, found, rest = text.partition(f"{mark}\n")
    _, end, after = rest.partition(END)
    if not found or not end:
        raise ValueError(f"a page lacks {mark} ... {END}")
    return f"{before}{mark}\n{body}\n{END}{after}"


def code(name: str) -> str:
    """The block of Python on the page of symptom `name`."""
    found = CODE.findall((FOLDER / f"{name}.md").read_text(encoding="utf-8"))
    if len(found) != 1:
        raise ValueError(f"docs/symptoms/{name}.md has {len(found)} blocks of Python, one is wanted")
    return found[0]


def executed(name: str) -> tuple[dict[str, Any], str]:
    """What the code of a page made and what it printed, in lines of at most 118 characters."""
    made: dict[str, Any] = {"__name__": "__main__"}
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(compile(code(name), f"docs/symptoms/{name}.md", "exec"), made)
    lines = [textwrap.fill(line, _WIDTH, subsequent_indent="  ") for line in out.getvalue().splitlines()]
    return made, "\n".join(lines) + "\n"


def rendered(name: str, text: str) -> str:
    """The page with its limits as they should be."""
    return between(text, LIMITS, facts(registry()[name]))


def front(text: str) -> str:
    """README.md with its limits and its table as they should be."""
    return between(between(text, COMMON, common()), INDEX, index())


def main(names: list[str]) -> int:
    """Write the limits of all pages, and what the code of the pages named prints."""
    known = registry()
    if unknown := [name for name in names if name not in known]:
        print(f"no symptom {unknown[0]!r}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    readme = FOLDER / "README.md"
    readme.write_text(front(readme.read_text(encoding="utf-8")), encoding="utf-8")
    for name in known:
        page = FOLDER / f"{name}.md"
        if not page.is_file():
            print(f"docs/symptoms/{name}.md is still to be written", file=sys.stderr)
            continue
        text = rendered(name, page.read_text(encoding="utf-8"))
        if name in names:
            told = executed(name)[1]
            text = TOLD.sub(lambda found, told=told: found[1] + told + found[3], text)
        page.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
