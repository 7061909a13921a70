"""A name with settings, as a file and a command line hold it: ``huber(delta=2.0)``.

The text is a call in Python's syntax whose arguments are plain values, or such calls again. It is read, never
executed.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from downslope.core import names, table
from downslope.core.errors import InputError, RecipeError, UnknownNameError

__all__ = ["Spelt", "by_name", "is_code", "parse", "spell"]


@dataclass(frozen=True)
class Spelt:
    """A name, what stands before the keywords, and the keywords."""

    name: str
    args: tuple[Any, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def __str__(self) -> str:
        return spell(self.name, self.args, self.settings)


def spell(name: str, args: Sequence[Any], settings: Mapping[str, Any]) -> str:
    """The text of a name with settings; without any the name alone."""
    parts = [_text(each) for each in args] + [f"{key}={_text(value)}" for key, value in settings.items()]
    return f"{name}({', '.join(parts)})" if parts else name


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        pairs = cast("Mapping[Any, Any]", value).items()
        return "{" + ", ".join(f"{key!r}: {_text(each)}" for key, each in pairs) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_text(each) for each in cast("Sequence[Any]", value)) + "]"
    return str(value) if isinstance(value, Spelt) else repr(value)


def by_name(found: Spelt, own: Sequence[str]) -> dict[str, Any]:
    """The settings of `found` by name: what stands without one is taken in the order of `own`.

    Raises:
        RecipeError: more than there are settings, or one that is given twice.
    """
    if len(found.args) > len(own):
        takes = f"it takes {', '.join(own)}" if own else "it has none"
        raise RecipeError(f"{found}: {len(found.args)} settings without a name are too many: {takes}")
    placed = dict(zip(own, found.args, strict=False))
    twice = next((key for key in placed if key in found.settings), None)
    if twice is not None:
        raise RecipeError(f"{found}: {twice} is given twice, by its place and by name; give it once")
    return {**placed, **found.settings}


def parse(text: str) -> Spelt:
    """What `text` spells; a name alone has no settings.

    Raises:
        InputError: no name with settings, or settings that are no plain values.
    """
    head, bracket, rest = text.strip().partition("(")
    place, colon, name = head.rpartition(":")  # of "package.module:attribute"
    try:
        tree = ast.parse(name + bracket + rest, mode="eval").body
    except SyntaxError as error:
        raise InputError(f"{text!r} cannot be read: {error.msg}; write name(key=value)") from None
    found = _call(tree)
    if found is None:
        raise InputError(f"{text!r} is no name with settings: write it as huber(delta=2.0)")
    return replace(found, name=place + colon + found.name)


def is_code(reference: Any, kind: names.Kind = "objective") -> bool:
    """Whether what a file says of an object is neither a name nor settings of one: code, gone with its text.

    Args:
        reference: What `downslope.core.stated.reference` gave.
        kind: The table in which the names are.
    """
    if not isinstance(reference, str) or not ("<" in reference or reference.endswith(")")):
        return False
    try:
        return not _known(parse(reference), kind)
    except InputError:
        return True


def _known(found: Spelt, kind: names.Kind) -> bool:
    if ":" in found.name and not (found.args or found.settings):
        return False  # what `reference` says of an object that a class made
    if ":" not in found.name and found.name not in table.FORMS.get(kind, {}):
        try:
            names.canonical(kind, found.name)
        except UnknownNameError:
            return False
    return not any(_holds_code(each, kind) for each in (*found.args, *found.settings.values()))


def _holds_code(value: Any, kind: names.Kind) -> bool:
    if isinstance(value, Spelt):
        return not _known(value, kind)
    if isinstance(value, Mapping):
        return any(_holds_code(each, kind) for each in cast("Mapping[Any, Any]", value).values())
    return is_code(value, kind)


def _call(tree: ast.expr) -> Spelt | None:
    if isinstance(tree, ast.Name):
        return Spelt(tree.id)
    if not isinstance(tree, ast.Call) or not isinstance(tree.func, ast.Name):
        return None
    settings = {each.arg: _value(each.value) for each in tree.keywords if each.arg is not None}
    return Spelt(tree.func.id, tuple(_value(each) for each in tree.args), settings)


def _value(tree: ast.expr) -> Any:
    """A plain value, or a name with settings."""
    if isinstance(tree, ast.Call):
        found = _call(tree)
        if found is None:
            raise InputError(f"{ast.unparse(tree)!r} is no name with settings")
        return found
    if isinstance(tree, ast.Name):
        return tree.id
    if isinstance(tree, (ast.List, ast.Tuple)):
        return tuple(_value(each) for each in tree.elts)
    if isinstance(tree, ast.Dict):
        return {
            _value(key): _value(each)
            for key, each in zip(tree.keys, tree.values, strict=True)
            if key is not None
        }
    try:
        return ast.literal_eval(tree)
    except (ValueError, TypeError):
        raise InputError(f"{ast.unparse(tree)!r} is no plain value: give numbers, text, or lists") from None
