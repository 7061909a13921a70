"""Augmentations as text, so that a file and a command line can hold them, and back."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, cast

from downslope.augment.augmentation import Augmentation
from downslope.augment.chain import Chain
from downslope.augment.foreign import adopted
from downslope.core import names
from downslope.core.errors import DownslopeError, InputError, told
from downslope.core.spelling import Spelt, parse


def read(given: Any) -> Any:
    """The augmentation that `given` stands for.

    Args:
        given: An augmentation; a name ("flip"); a text of names with arguments ("flip, rotate(10)", the form
            that ``str(augmentation)`` has); a list of these, which is a chain; a transform of kornia or
            torchvision; or any ``batch -> batch``, which comes back as it is.

    Raises:
        UnknownNameError: a name that no table holds; the nearest is told.
        InputError: a text that is no such list, or an argument that the augmentation does not have.
    """
    if isinstance(given, Augmentation):
        return given
    if isinstance(given, str):
        return _of_text(given)
    if isinstance(given, tuple | list):
        return Chain(*cast("tuple[Any, ...]", given))
    if isinstance(given, Mapping):
        return _of_table(dict(cast("Mapping[str, Any]", given)))
    if isinstance(given, type):
        raise InputError(f"augment={given.__name__} is a class: make one, {given.__name__}()")
    if not callable(given):
        raise InputError(
            f"augment={given!r}: must be a name such as 'flip', a list of them, an augmentation of "
            "ds.augment, or a function batch -> batch"
        )
    return adopted(given)


def _of_text(text: str) -> Any:
    if ":" in text and "(" not in text:
        return read(names.load(text))
    try:
        found = parse(f"chain({text})")
    except InputError:
        raise InputError(
            f"augment={text!r}: must be names with settings, such as 'flip, rotate(10), mixup(alpha=0.2)'"
        ) from None
    made = [_made(each, text) for each in found.args]
    return made[0] if len(made) == 1 and not found.settings else Chain(*made, **found.settings)


def _made(value: Any, text: str) -> Any:
    """What one part of the text stands for: an augmentation by name, or a plain value."""
    if isinstance(value, Spelt):
        kind = names.canonical("augment", value.name)
        nested = [_made(each, text) for each in value.args] if kind == "chain" else value.args
        return _called(value.name, nested, dict(value.settings), text)
    return _called(value, (), {}, text) if isinstance(value, str) else read(value)


def _called(name: str, arguments: Any, named: dict[str, Any], text: str) -> Any:
    kind = names.resolve("augment", name)
    try:
        return kind(*arguments, **named)
    except DownslopeError:
        raise
    except TypeError as error:  # an argument that it does not have
        fields = [each.name for each in dataclasses.fields(kind) if each.name != "parts"]
        said = told(error).removeprefix("TypeError: ").replace(f"{kind.__name__}.__init__()", name)
        raise InputError(f"augment={text!r}: {said}; {name} takes {', '.join(fields)}") from None


def _of_table(table: dict[str, Any]) -> Any:
    """``{"name": "rotate", "degrees": 10}``, as TOML holds it."""
    name = table.pop("name", None)
    if not isinstance(name, str):
        raise InputError(f"augment: the table {table!r} has no name: {{'name': 'rotate', 'degrees': 10}}")
    pairs = {key: tuple(cast("list[Any]", v)) if isinstance(v, list) else v for key, v in table.items()}
    return _called(name, (), pairs, name)
