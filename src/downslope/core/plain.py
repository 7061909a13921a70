"""Plain values for files: what JSON can hold, and what TOML can hold."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np


def plain(value: Any) -> Any:
    """`value` as dicts, lists, strings, numbers and None; a non-finite number becomes None.

    Tensors and arrays become lists; what is none of these becomes its `str`.
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in cast("Mapping[Any, Any]", value).items()}
    if isinstance(value, str) or value is None or isinstance(value, bool):
        return value
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, Sequence):
        return [plain(item) for item in cast("Sequence[Any]", value)]
    return str(value)


def to_toml(table: Mapping[str, Any]) -> str:
    """`table` as TOML: strings, booleans, integers, floats (shortest exact form), arrays, sub-tables.

    A list of mappings becomes an array of tables. None is left out: TOML has none.

    Raises:
        TypeError: a value that TOML cannot hold.
    """
    return "\n".join(_lines(table, ())).lstrip("\n") + "\n"


def _lines(table: Mapping[str, Any], path: tuple[str, ...]) -> list[str]:
    lines = [f"{_key(key)} = {_value(item)}" for key, item in table.items() if not _nested(item)]
    for key, item in table.items():
        below = (*path, _key(key))
        if isinstance(item, Mapping):
            lines += ["", f"[{'.'.join(below)}]", *_lines(cast("Mapping[str, Any]", item), below)]
        elif _nested(item) and item is not None:
            for row in cast("Sequence[Mapping[str, Any]]", item):
                lines += ["", f"[[{'.'.join(below)}]]", *_rows(row)]
    return lines


def _rows(row: Mapping[str, Any]) -> list[str]:
    return [f"{_key(key)} = {_value(item)}" for key, item in row.items() if item is not None]


def _nested(item: Any) -> bool:
    if isinstance(item, Mapping) or item is None:
        return True
    if not isinstance(item, (list, tuple)):
        return False
    rows = cast("Sequence[Any]", item)
    return bool(rows) and all(isinstance(row, Mapping) for row in rows)


def _key(key: str) -> str:
    return key if key.replace("_", "").replace("-", "").isalnum() and key.isascii() else _text(key)


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(item: Any) -> str:
    if isinstance(item, np.generic):
        item = item.item()
    if isinstance(item, bool):
        return "true" if item else "false"
    if isinstance(item, int):
        return str(item)
    if isinstance(item, float):
        return (
            repr(item)
            if math.isfinite(item)
            else {True: "nan"}.get(item != item, "inf" if item > 0 else "-inf")
        )
    if isinstance(item, str):
        return _text(item)
    if isinstance(item, Mapping):
        pairs = cast("Mapping[str, Any]", item).items()
        written = [f"{_key(key)} = {_value(value)}" for key, value in pairs if value is not None]
        return "{ " + ", ".join(written) + " }"
    if isinstance(item, (list, tuple)):
        return "[" + ", ".join(_value(each) for each in cast("Sequence[Any]", item)) + "]"
    raise TypeError(
        f"{item!r} cannot be written to a recipe file: only text, numbers, booleans and lists of them"
    )
