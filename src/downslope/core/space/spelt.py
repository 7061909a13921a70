"""A dimension as text, for the command line and for files: ``log:1e-4:1``, ``choice:sgd,adam``."""

from __future__ import annotations

import ast
from typing import Any

from downslope.core import names
from downslope.core.errors import SpaceError
from downslope.core.space.dimension import Choice, Dimension, Integer, Log, OneMinus, Uniform
from downslope.core.space.ranges import when

FORMS = "log:1e-4:1, uniform:0:0.5, int:16:512, log-int:16:512, choice:sgd,adam or one-minus-log:1e-3:1e-1"
"""Every spelling, for messages and help."""

_KINDS = ("log", "uniform", "int", "log-int", "choice", "one-minus-log", "one-minus-uniform")
_ALIASES = {"integer": "int", "log-integer": "log-int", "int-log": "log-int", "linear": "uniform"}


def parse(text: str) -> Dimension:
    """The dimension that `text` spells.

    One of ``log:1e-4:1``, ``uniform:0:0.5``, ``int:16:512``, ``log-int:16:512``, ``choice:sgd,adam`` and
    ``one-minus-log:1e-3:1e-1``, each with a condition behind it where there is one:
    ``log:0.1:1 when optimizer=sgd|adam``.

    Raises:
        SpaceError: a spelling that none has, ends that are no numbers, or what the dimension raises.
    """
    spelt, *conditions = _split(text.strip(), " when ")
    dimension = _dimension(spelt.strip())
    if not conditions:
        return dimension
    met: dict[str, Any] = {}
    for each in _split(conditions[-1], " and "):
        key, sign, values = each.strip().partition("=")
        if not sign or not key.strip():
            raise SpaceError(f"{text}: after 'when' goes key=value, such as when optimizer=sgd|momentum")
        met[key.strip()] = [_value(word) for word in _split(values, "|")]
    return when(dimension, **met)


def _dimension(text: str) -> Dimension:
    kind, colon, rest = text.partition(":")
    kind = kind.strip().lower().replace("_", "-")
    kind = _ALIASES.get(kind, kind)
    if kind not in _KINDS or not colon:
        hint = (
            ""
            if not colon or not (near := names.nearest(kind, _KINDS, 1, 0.6))
            else f"; did you mean {near[0]}?"
        )
        raise SpaceError(f"{text!r} is no dimension: write {FORMS}{hint}")
    if kind == "choice":
        return Choice(tuple(_value(word) for word in _split(rest, ",") if word.strip()))
    low, high = _ends(text, rest)
    if kind in ("int", "log-int"):
        return Integer(low, high, log=kind == "log-int")  # pyright: ignore[reportArgumentType] (checked there)
    plain = Log(low, high) if kind.endswith("log") else Uniform(low, high)
    return OneMinus(plain) if kind.startswith("one-minus") else plain


def _ends(text: str, rest: str) -> tuple[float, float]:
    words = rest.split(":")
    try:
        low, high = (float(word) for word in words)
    except ValueError:
        raise SpaceError(f"{text!r}: must have two numbers, a low end and a high end: {FORMS}") from None
    return low, high


def _split(text: str, by: str) -> list[str]:
    """`text` cut at `by`, outside of quotes and brackets."""
    parts, start, depth, quote = list[str](), 0, 0, ""
    for i, sign in enumerate(text):
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "'\"":
            quote = sign
        elif sign in "([":
            depth += 1
        elif sign in ")]":
            depth -= 1
        elif depth == 0 and text.startswith(by, i) and i >= start:
            parts.append(text[start:i])
            start = i + len(by)
    return [*parts, text[start:]]


def _value(word: str) -> Any:
    """An option: a number, True, False, None, a tuple, quoted text, or text as it stands."""
    word = word.strip()
    known = {"true": True, "false": False, "none": None}
    if word.lower() in known:
        return known[word.lower()]
    try:
        value: Any = ast.literal_eval(word)
    except (ValueError, SyntaxError):
        return word
    return tuple(value) if isinstance(value, list) else value  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
