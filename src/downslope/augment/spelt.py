"""Augmentations as text, so that a file and a command line can hold them, and back."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Mapping
from typing import Any, cast

from downslope.augment.augmentation import Augmentation
from downslope.augment.chain import Chain
from downslope.augment.foreign import adopted
from downslope.core import names
from downslope.core.errors import DownslopeError, InputError, told


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
        tree = ast.parse(text.strip(), mode="eval").body
    except SyntaxError:
        raise _no_list(text) from None
    made = _made(tree, text)
    return Chain(*made) if isinstance(made, tuple) else made


def _made(node: ast.expr, text: str) -> Any:
    """What one expression of the text stands for: augmentations made of calls and names, numbers, strings."""
    if isinstance(node, ast.Name):
        return _called(node.id, (), {}, text)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        arguments = [_made(each, text) for each in node.args]
        named = {str(each.arg): _value(each.value, text) for each in node.keywords}
        return _called(node.func.id, arguments, named, text)
    if isinstance(node, ast.Tuple | ast.List):
        return tuple(_made(each, text) for each in node.elts)
    try:
        return ast.literal_eval(node)
    except ValueError:
        raise _no_list(text) from None


def _value(node: ast.expr, text: str) -> Any:
    """An argument given by its name; a bare word is a string, so that a shell needs no inner quotes."""
    return node.id if isinstance(node, ast.Name) else _made(node, text)


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


def _no_list(text: str) -> InputError:
    return InputError(
        f"augment={text!r}: must be names with arguments, such as 'flip, rotate(10), mixup(alpha=0.2)'"
    )
