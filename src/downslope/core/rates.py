"""The schedule of a recipe as data: a name, or a name with settings such as ``cosine(final=0.1)``."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from downslope.core import names
from downslope.core.errors import RecipeError
from downslope.core.spelling import Spelt, by_name, parse

__all__ = ["made", "read"]


def read(given: Any) -> str:
    """A schedule in its one spelling.

    Raises:
        UnknownNameError: no such schedule; the nearest is told.
        RecipeError: a setting that it has not, or a value outside its domain.
    """
    if not isinstance(given, str) or "(" not in given:
        return names.canonical("schedule", given)
    found = parse(given)
    name = names.canonical("schedule", found.name)
    spelt = str(Spelt(name, (), by_name(found, _taken(names.resolve("schedule", name)))))
    made(spelt, 1)
    return spelt


def made(schedule: str, total_steps: int) -> Callable[[int], float]:
    """``step -> factor`` of the schedule over a run of `total_steps`.

    Raises:
        RecipeError: a setting that it has not, or a value outside its domain.
    """
    found = parse(schedule)
    factory = names.resolve("schedule", found.name)
    taken = _taken(factory)
    settings = by_name(found, taken)
    for key in settings:
        if key not in taken:
            raise RecipeError(
                f"schedule {found.name!r} has no setting {key!r}{names.did_you_mean(key, taken)}"
            )
    try:
        return factory(total_steps, **settings)
    except TypeError as error:
        raise RecipeError(f"schedule={schedule!r}: {error}") from None


def _taken(factory: Callable[..., Any]) -> list[str]:
    """The settings of a schedule, in their order."""
    return list(inspect.signature(factory).parameters)[1:]
