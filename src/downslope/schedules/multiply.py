"""Schedules multiplied."""

from __future__ import annotations

import math

from downslope.schedules.combined import combined
from downslope.schedules.schedule import Schedule


def multiply(*schedules: Schedule) -> Schedule:
    """The product of all `schedules` at every step.

    Args:
        schedules: at least one.

    Raises:
        RecipeError: none, or one that is no function of the step.
    """
    return combined(schedules, lambda parts, t: math.prod(part(t) for part in parts))
