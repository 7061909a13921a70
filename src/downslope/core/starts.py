"""Where a recipe starts, as data: the name of an initialisation, or its name and settings.

    init = "he"                 # the name alone: its own defaults
    init = "normal(std=0.01)"   # spelt as objectives and schedules are; kept as the table below
    [init]
    name = "normal"
    std = 0.01                  # a setting of its own
    scale = 0.5                 # a factor on what it draws, which every initialisation takes

Each setting is a key of the recipe, ``init.std``, so that it can be edited, given on the command line and
searched alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from downslope.core import names
from downslope.core.errors import DownslopeError, RecipeError
from downslope.core.spelling import by_name, parse, spell

__all__ = ["PREFIX", "Init", "gathered", "keys", "read", "said"]

Init = str | dict[str, Any]

PREFIX = "init."


def read(given: Any) -> Init:
    """An initialisation in its one form: the name alone where nothing is set, else a table.

    Args:
        given: A name, one with settings (``"normal(std=0.01)"``), ``"module:function"``, or a mapping with
            ``name`` and settings.

    Raises:
        UnknownNameError: no such initialisation; the nearest is told.
        RecipeError: no name, a setting that it has not, or a value outside its domain.
    """
    if isinstance(given, str) and "(" in given:
        given = _spelt(given)
    if not isinstance(given, Mapping):
        return _named(given)
    table = dict(cast("Mapping[str, Any]", given))
    if "name" not in table:
        raise RecipeError(
            f"init={table!r} does not say which: give its name, such as {{'name': 'normal', 'std': 0.01}}"
        )
    name = _named(table.pop("name"))
    try:
        settings = names.load("downslope.init:check")(name, table)
    except RecipeError:
        raise
    except DownslopeError as error:
        raise RecipeError(f"init {error}") from None
    return {"name": name, **settings} if settings else name


def _spelt(text: str) -> dict[str, Any]:
    """``"normal(std=0.01)"`` as a table; what stands without a name goes in the order of its own settings."""
    found = parse(text)
    if not found.args:
        return {"name": found.name, **found.settings}
    own = [key.removeprefix(PREFIX) for key in keys(_named(found.name))]
    return {"name": found.name, **by_name(found, [key for key in own if key != "scale"])}


def _named(name: Any) -> str:
    if isinstance(name, str) and ":" in name:
        names.load(name)
        return name
    return names.canonical("init", name)


def gathered(given: Mapping[str, Any], own: Init | None = None) -> dict[str, Any]:
    """`given` with its keys ``init.NAME`` put into its ``init``.

    Args:
        given: Key to value; a value of None takes a setting back to its default.
        own: The initialisation that the settings belong to where `given` has none.

    Raises:
        RecipeError: settings of an initialisation that is not named.
    """
    ours = {key.removeprefix(PREFIX): value for key, value in given.items() if key.startswith(PREFIX)}
    if not ours:
        return dict(given)
    base: Any = given.get("init", own)
    if base is None:
        key = next(iter(ours))
        raise RecipeError(
            f"{PREFIX}{key}: the recipe names no initialisation whose setting it is; give init too: "
            f"init={{'name': 'he', {key!r}: {ours[key]!r}}}"
        )
    base = _spelt(base) if isinstance(base, str) and "(" in base else base
    table = dict(cast("Mapping[str, Any]", base)) if isinstance(base, Mapping) else {"name": base}
    table = {key: value for key, value in (table | ours).items() if value is not None}
    return {key: value for key, value in given.items() if not key.startswith(PREFIX)} | {"init": table}


def keys(init: Init | None) -> list[str]:
    """The keys of a recipe that are settings of its initialisation."""
    if init is None:
        return []
    name = init if isinstance(init, str) else str(init["name"])
    return [f"{PREFIX}{key}" for key in names.load("downslope.init:settings_of")(name)]


def said(init: Init) -> str:
    """The initialisation as it is spelt: ``normal(std=0.01)``."""
    if isinstance(init, str):
        return init
    return spell(str(init["name"]), (), {key: value for key, value in init.items() if key != "name"})
