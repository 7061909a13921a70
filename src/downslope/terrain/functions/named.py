"""Functions by name, with settings."""

from __future__ import annotations

import inspect
from typing import Any

from downslope.core import names as table
from downslope.core.errors import InputError
from downslope.core.spelling import by_name, parse
from downslope.terrain.functions.function import Function


def get(name: str | Function, **settings: Any) -> Function:
    """The function of that name.

    Args:
        name: As `names` lists them, or with settings in its text: "bowl(condition=100)"; a function comes
            back as it is.
        **settings: Of the function, such as ``dimension=10``.

    Raises:
        UnknownNameError: no such name; the nearest is told.
        InputError: a setting that it does not have, or outside its domain.
    """
    if isinstance(name, Function):
        return name
    found = parse(name) if isinstance(name, str) and "(" in name else None  # pyright: ignore[reportUnnecessaryIsInstance]
    make: Any = table.resolve("function", name if found is None else found.name)
    takes = list(inspect.signature(make).parameters)
    given = settings if found is None else by_name(found, takes) | settings
    for key in given:
        if key not in takes:
            has = f"it takes {', '.join(takes)}" if takes else "it has none"
            raise InputError(f"{key!r} is no setting of the function {make.__name__}: {has}")
    try:
        made = make(**given)
    except TypeError as error:
        raise InputError(f"{make.__name__}: {error}") from None
    return made


def names() -> tuple[str, ...]:
    """The names of all functions."""
    return tuple(table.TABLE["function"])
