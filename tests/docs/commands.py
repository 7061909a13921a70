"""What documentation may name: commands of `downslope`, names below `ds.`, tests, anchors."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"


@cache
def command_exists(verb: str) -> bool:
    """True if `downslope VERB --help` is answered."""
    done = subprocess.run(
        [sys.executable, "-m", "downslope", verb, "--help"], capture_output=True, text=True, check=False
    )
    return done.returncode == 0


def unknown_commands(lines: str) -> list[str]:
    """Verbs of the `downslope VERB` lines in `lines`, with or without a prompt, that do not exist."""
    verbs = re.findall(r"^\s*(?:\$ )?(?:python -m )?downslope +([a-z][a-z-]*)", lines, flags=re.MULTILINE)
    return sorted({verb for verb in verbs if not command_exists(verb)})


def names_below_ds(code: str) -> list[str]:
    """Every `ds.x.y` in Python `code`, longest form, without `ds.`.

    Raises:
        SyntaxError: `code` is not Python.
    """
    found: set[str] = set()
    for node in ast.walk(ast.parse(code)):
        parts: list[str] = []
        inner: ast.AST = node
        while isinstance(inner, ast.Attribute):
            parts.append(inner.attr)
            inner = inner.value
        if parts and isinstance(inner, ast.Name) and inner.id == "ds":
            found.add(".".join(reversed(parts)))
    return sorted(name for name in found if not any(other.startswith(f"{name}.") for other in found))


def resolves(name: str) -> bool:
    """True if `ds.name` exists, attribute by attribute."""
    import downslope

    found: object = downslope
    for part in name.split("."):
        found = getattr(found, part, None)
        if found is None:
            return False
    return True


def names_a_test(node: str) -> bool:
    """True if the pytest node id `file::[Class::]function[...]` names a test that is written down."""
    path, *names = re.sub(r"\[.*\]$", "", node).split("::")
    file = ROOT / path
    if not file.is_file() or not names:
        return False
    body: list[ast.stmt] = ast.parse(file.read_text(encoding="utf-8")).body
    for name in names:
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        found = [each for each in body if isinstance(each, kinds) and each.name == name]
        if not found:
            return False
        body = found[0].body
    return names[-1].startswith("test")


def anchors(page: Path) -> set[str]:
    """Anchors of a Markdown page: explicit ids, and headings as hosts of Markdown slug them."""
    text = page.read_text(encoding="utf-8")
    headings = re.findall(r"^#+ +(.+?) *$", text, flags=re.MULTILINE)
    slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    return slugs | set(re.findall(r'<a id="([^"]+)"', text))


def link_exists(link: str) -> bool:
    """True if `file#anchor`, relative to docs/, is there."""
    path, _, anchor = link.partition("#")
    page = DOCS / path
    return page.is_file() and (not anchor or anchor in anchors(page))
