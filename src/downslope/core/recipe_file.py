"""The file of a recipe: text and table, with one line for what cannot be written or read."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from downslope.core.errors import RecipeError, UnwrittenError


def write_text(path: str | Path, text: str) -> Path:
    """Write a file of a recipe, and the folders on its way.

    Raises:
        UnwrittenError: it cannot be written.
    """
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UnwrittenError(f"{target} cannot be written: {error.strerror or error}") from None
    return target


def read_table(path: str | Path) -> dict[str, Any]:
    """The TOML table in the file at `path`.

    Raises:
        RecipeError: no such file, or not TOML.
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise RecipeError(f"recipe file {path}: {reason}") from None
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"recipe file {path} is not TOML: {error}") from None
