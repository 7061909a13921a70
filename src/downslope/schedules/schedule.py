"""What a schedule is, and the checks that all of them share."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable
from typing import Any

from downslope.core.errors import RecipeError

__all__ = [
    "Schedule", "as_number", "as_step", "check_count", "check_factor", "check_list", "check_share",
    "check_steps", "of_steps",
]  # fmt: skip

Schedule = Callable[[int], float]
"""From the number of steps already made (0 before the first) to what the learning rate is multiplied by."""


def as_step(t: Any) -> int:
    """`t` as a whole number from 0.

    Raises:
        RecipeError: it is none.
    """
    given: Any = int(t) if isinstance(t, float) and t.is_integer() else t
    try:
        step = operator.index(given)
    except TypeError:
        step = -1
    if step < 0:
        raise RecipeError(
            f"a schedule was asked for step {t!r}: must be a whole number from 0, it counts the steps "
            "already made (0 before the first)"
        )
    return step


def of_steps(schedule: Schedule) -> Schedule:
    """`schedule`, which refuses what is no number of steps: see `as_step`."""

    @functools.wraps(schedule)
    def checked(t: int) -> float:
        return schedule(t if type(t) is int and t >= 0 else as_step(t))

    return checked


def check_list(name: str, value: Any, such: str) -> None:
    """Refuses what is no list: a thing alone, or text.

    Args:
        name: of the argument.
        value: what was given.
        such: an example.

    Raises:
        RecipeError: it is none.
    """
    if isinstance(value, str) or not (hasattr(value, "__len__") and hasattr(value, "__iter__")):
        raise RecipeError(f"{name}={value!r}: must be a list, {such}")


def check_steps(name: str, value: Any) -> int:
    """`value` if it is a whole number from 1.

    Raises:
        RecipeError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise RecipeError(f"{name}={value!r}: must be a whole number from 1, it counts optimizer steps")
    return value


def check_count(name: str, value: Any) -> int:
    """`value` if it is a whole number from 0.

    Raises:
        RecipeError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise RecipeError(f"{name}={value!r}: must be a whole number from 0, it counts measurements")
    return value


def check_factor(name: str, value: float, *, zero: bool = True) -> float:
    """`value` if it lies in [0, 1], or in (0, 1] without `zero`.

    Raises:
        RecipeError: it does not.
    """
    number = as_number(value)
    if not (math.isfinite(number) and number <= 1.0 and (number >= 0.0 if zero else number > 0.0)):
        raise RecipeError(
            f"{name}={value!r}: must lie in {'[' if zero else '('}0, 1], it is a share of the learning rate"
        )
    return number


def as_number(value: Any) -> float:
    """`value` as a number, NaN where it is none: it lies in no domain."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def check_share(name: str, value: float) -> float:
    """`value` if it lies in [0, 1].

    Raises:
        RecipeError: it does not.
    """
    number = as_number(value)
    if not 0.0 <= number <= 1.0:
        raise RecipeError(f"{name}={value!r}: must lie in [0, 1], it is a share of the run")
    return number
