"""Where a recipe starts, as data: the name of an initialisation, or its name and settings.

    init = "he"                 # the name alone: its own defaults
    init = "normal(std=0.01)"   # spelt as objectives and schedules are; kept as the table below
    init = my_function          # of Python alone: code, which no file holds
    [init]
    name = "normal"
    std = 0.01                  # a setting of its own
    scale = 0.5                 # a factor on what it draws, which every initialisation takes

Each setting is a key of the recipe, ``init.std``, so that it can be edited, given on the command line and
searched alone.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, cast

from downslope.core import names
from downslope.core.errors import DownslopeError, RecipeError
from downslope.core.spelling import by_name, parse, spell

__all__ = ["PREFIX", "Init", "gathered", "keys", "read", "said", "told"]

Init = str | dict[str, Any] | Callable[..., Any]

PREFIX = "init."


def read(given: Any) -> Init:
    """An initialisation in its one form: the name alone where nothing is set, else a table.

    Args:
        given: A name, one with settings (``"normal(std=0.01)"``), ``"module:function"``, a mapping with
            ``name`` and settings, or a function that initialises a model in place.

    Raises:
        UnknownNameError: no such initialisation; the nearest is told.
        RecipeError: no name, a setting that it has not, or a value outside its domain.
    """
    if callable(given):
        if isinstance(given, type) or hasattr(given, "parameters"):
            raise RecipeError(
                f"init={said(given)}: must be a name, or a function that changes the weights of a model that "
                "it is given"
            )
        return given
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
    key, value = next(iter(ours.items()))
    if base is None:
        raise RecipeError(f"{PREFIX}{key}={value!r}: {_whose(key, value)}")
    if callable(base):
        raise RecipeError(
            f"{PREFIX}{key}={value!r}: the recipe's init is code ({said(base)}), which has no settings here; "
            "set it there"
        )
    base = _spelt(base) if isinstance(base, str) and "(" in base else base
    table = dict(cast("Mapping[str, Any]", base)) if isinstance(base, Mapping) else {"name": base}
    table = {key: value for key, value in (table | ours).items() if value is not None}
    return {key: value for key, value in given.items() if not key.startswith(PREFIX)} | {"init": table}


def _whose(key: str, value: Any) -> str:
    """Which initialisations have a setting, where the recipe names none."""
    settings_of = names.load("downslope.init:settings_of")
    table = {name: settings_of(name) for name in names.TABLE["init"]}
    having = ["auto"] if key == "scale" else [name for name, own in table.items() if key in own]
    if not having:
        known = {each for own in table.values() for each in own}
        return f"no initialisation has such a setting{names.did_you_mean(key, known)}"
    which = having[0] if len(having) == 1 else f"{', '.join(having[:-1])} or {having[-1]}"
    every = ", a factor on what any initialisation draws" if key == "scale" else ""
    return (
        f"a setting of {which}{every}, and the recipe names no initialisation, so that the model keeps its "
        f"own; say which: init='{having[0]}({key}={value!r})'"
    )


def keys(init: Init | None) -> list[str]:
    """The keys of a recipe that are settings of its initialisation."""
    if init is None or callable(init):
        return []
    name = init if isinstance(init, str) else str(init["name"])
    return [f"{PREFIX}{key}" for key in names.load("downslope.init:settings_of")(name)]


def said(init: Init) -> str:
    """The initialisation as it is spelt: ``normal(std=0.01)``; of code its name."""
    if isinstance(init, functools.partial):
        held = cast("functools.partial[Any]", init)
        return spell(said(held.func), held.args, held.keywords)
    if callable(init):
        return str(getattr(init, "__name__", type(init).__name__))
    if isinstance(init, str):
        return init
    return spell(str(init["name"]), (), {key: value for key, value in init.items() if key != "name"})


def told(init: Callable[..., Any]) -> dict[str, Any]:
    """What a run says of an initialisation that is code: its name, its source, and where that stands.

    Returns:
        ``name``; ``source``, ``file`` and ``line``, where the source is at hand.
    """
    code: Any = init
    while isinstance(code, functools.partial):
        code = cast("functools.partial[Any]", code).func
    code = code if inspect.isroutine(code) else type(code)
    try:
        lines, line = inspect.getsourcelines(code)
        file = inspect.getsourcefile(code)
    except (OSError, TypeError):
        return {"name": said(init)}
    return {"name": said(init), "source": inspect.cleandoc("\n" + "".join(lines)), "file": file, "line": line}
