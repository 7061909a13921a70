"""Schedules of settings other than the learning rate, as a recipe has them: a table of texts.

    schedules = { momentum = "cosine(final=0.9)", betas = ["constant", "exponential"] }

Each setting is multiplied by the factor that its schedule has for the step; of a pair each entry by its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from downslope.core import names, rates
from downslope.core.errors import RecipeError

__all__ = ["made", "read"]

Factor = Callable[[int], float]


def read(given: Any, settings: Mapping[str, Any], optimizer: Any) -> dict[str, Any]:
    """The schedules of a recipe, each in its one spelling; of a pair, a list of them.

    Args:
        given: by the names of settings.
        settings: what the optimizer has, with its defaults.
        optimizer: its name, for the message.

    Raises:
        RecipeError: no table, a misspelt name, a setting that is no number, or a schedule by measurements.
    """
    if not isinstance(given, Mapping):
        raise RecipeError(f"schedules={given!r}: must be a table of schedules, {{'momentum': 'cosine'}}")
    found: dict[str, Any] = {}
    for name, spelt in cast("Mapping[str, Any]", given).items():
        if name == "lr":
            raise RecipeError(f"schedules: the learning rate has a key of its own, schedule={spelt!r}")
        numbers = [key for key, value in settings.items() if _may_change(key, value)]
        if name not in numbers:
            near = names.did_you_mean(name, numbers)
            raise RecipeError(f"schedules: {optimizer} has no number {name!r}{near}")
        parts = settings[name]
        if not isinstance(parts, (tuple, list)):
            found[name] = _text(name, spelt)
            continue
        n = len(cast("Sequence[Any]", parts))
        if not isinstance(spelt, (tuple, list)) or len(cast("Sequence[Any]", spelt)) != n:
            raise RecipeError(
                f"schedules: {name} has {n} entries, so it takes a list of {n}; None for one that stays"
            )
        found[name] = [
            _text(name, "constant" if each is None else each) for each in cast("Sequence[Any]", spelt)
        ]
    return found


def _may_change(name: str, value: Any) -> bool:
    return name not in ("lr", "rounding_seed") and not isinstance(value, (bool, str, type(None)))


def _text(name: str, given: Any) -> str:
    spelt = rates.read(given)
    if not isinstance(spelt, str) or rates.scheduler(spelt) is not None or spelt.startswith("plateau"):
        raise RecipeError(
            f"schedules: {name}={rates.said(spelt)} is none of the steps alone in a name: take one of "
            f"{', '.join(each for each in names.TABLE['schedule'] if each != 'plateau')}, or give "
            "'module:function' of total_steps; what runs by measurements sets the rate, as schedule="
        )
    return spelt


def made(given: Mapping[str, Any], total_steps: int) -> dict[str, Factor | tuple[Factor, ...]]:
    """Of every setting ``step -> factor`` over a run of `total_steps`, of a pair a tuple of them."""
    return {
        name: rates.made(spelt, total_steps)
        if isinstance(spelt, str)
        else tuple(rates.made(each, total_steps) for each in spelt)
        for name, spelt in given.items()
    }
