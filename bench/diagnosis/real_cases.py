"""Faults that people had and asked about in public: plain files in ``real``, each with its twin inside.

A file holds one line ``FAULTY = True``; with False there it is its own healthy twin. Its docstring names the
thread, what was seen and the cause that the answer gave; ``Root:`` ends it, and symptoms that say that.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from bench.diagnosis.case import Case
from bench.diagnosis.fault import Setup, Sick

FOLDER = Path(__file__).parent / "real"

SWITCH = re.compile(r"^FAULTY = True$", re.MULTILINE)

UNLISTED = "none of the list"
"""What stands after ``Root:`` where no symptom has a word for it: any root named for it is wrong."""


def real() -> Iterator[Case]:
    """Scripts first, then tasks; the twin of each before it."""
    for path in sorted(FOLDER.glob("scripts/*.py")):
        yield from _script(path)
    for path in sorted(FOLDER.glob("tasks/*.py")):
        yield from _task(path)


def text(path: Path, *, faulty: bool) -> str:
    """The file as it stands, or as its twin.

    Raises:
        ValueError: The file does not hold the line exactly once.
    """
    found = path.read_text(encoding="utf-8")
    if len(SWITCH.findall(found)) != 1:
        raise ValueError(f"{path.name} must hold the line 'FAULTY = True' once, to have a twin")
    return found if faulty else SWITCH.sub("FAULTY = False", found)


def roots(path: Path) -> tuple[str, ...]:
    """The symptoms that its docstring accepts, the most faithful first."""
    told = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").strip().splitlines()
    said = next((each for each in reversed(told) if each.startswith("Root:")), None)
    if said is None:
        raise ValueError(f"the docstring of {path.name} must name the root: 'Root: learning-rate-too-high'")
    words = said.removeprefix("Root:").strip()
    return (UNLISTED,) if words.startswith(UNLISTED) else tuple(re.findall(r"[a-z]+(?:-[a-z]+)*", words))


def _script(path: Path) -> Iterator[Case]:
    first, *also = roots(path)
    base = f"real/{path.stem}/-"
    for kind, faulty in (("script twin", False), ("script", True)):
        yield Case(f"{kind}/real/{path.stem}", kind, first if faulty else None, base, "", 0, 0,
                   "real", _not_built, tuple(also),
                   lambda faulty=faulty: text(path, faulty=faulty))  # fmt: skip


def _not_built() -> Setup:
    raise TypeError("a script is run, not built")


def _task(path: Path) -> Iterator[Case]:
    first, *also = roots(path)
    base = f"real/{path.stem}/-"
    yield Case(
        f"twin/real/{path.stem}", "twin", None, base, "", 0, 0, "real", lambda: _built(path, faulty=False)
    )
    yield Case(f"real/{path.stem}", "sick", first, base, "", 0, 0, "real", lambda: _sick(path),
               tuple(also))  # fmt: skip


def _sick(path: Path) -> Sick:
    ill = _built(path, faulty=True)
    return Sick(ill.problem, ill.recipe, twin=_built(path, faulty=False))


def _built(path: Path, *, faulty: bool) -> Setup:
    module = ModuleType(path.stem)
    module.__file__ = str(path)
    exec(compile(text(path, faulty=faulty), str(path), "exec"), module.__dict__)
    return Setup(module.problem(), module.recipe())
