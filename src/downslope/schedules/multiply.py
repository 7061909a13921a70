"""Schedules multiplied."""

from __future__ import annotations

import math

from downslope.schedules.schedule import Schedule


def multiply(*schedules: Schedule) -> Schedule:
    """The product of all `schedules` at every step; 1 for none."""
    return lambda t: math.prod(schedule(t) for schedule in schedules)
