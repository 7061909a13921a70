"""Edits into files; what reads them knows every kind, what writes them need not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from downslope.core import names
from downslope.core.edits.augment import SetAugment
from downslope.core.edits.edit import Edit
from downslope.core.errors import InputError, RecipeError
from downslope.core.plain import plain, to_toml
from downslope.core.recipe import Recipe
from downslope.core.recipe_file import write_text
from downslope.core.spelling import is_code


def save(path: str | Path, recipe: Recipe, edits: Sequence[Edit] = (), notes: Sequence[str] = ()) -> Path:
    """Write a recipe and the edits of its problem to one TOML file; `load` and ``--recipe`` read it.

    Each of `notes` becomes a comment at its head.

    Raises:
        RecipeError: code that no file can hold.
    """
    table = recipe.to_dict()
    rows = [plain(edit.to_dict()) for edit in edits]
    for row in rows:
        if (code := code_of(row)) is not None:
            raise RecipeError(f"the edit {row['kind']!r} holds code ({code}), a file holds names")
    head = "".join(f"# {' '.join(note.split())}\n" for note in notes)
    return write_text(path, head + to_toml(table | ({"edit": rows} if rows else {})))


def code_of(saved: Mapping[str, Any]) -> str | None:
    """The entry of a saved edit that stands for code which no import finds again; None if there is none."""
    if saved.get("kind") == "combined":
        return next(filter(None, map(code_of, saved["edits"])), None)
    if saved.get("kind") == SetAugment.kind:
        return _unread(saved.get("augment"))
    entries = [saved.get(key) for key in ("factory", "before", "after", "objective")]
    texts = [each for each in entries if isinstance(each, str)]
    return next((each for each in texts if is_code(each)), None)


def _unread(augment: Any) -> str | None:
    """The text of an augmentation that is code; None of one that can be read again."""
    try:
        names.load("downslope.augment:read")(augment or "flip")
    except InputError:
        return str(augment)
    return None
