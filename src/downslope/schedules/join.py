"""Schedules one after the other."""

from __future__ import annotations

from collections.abc import Sequence

from downslope.core.errors import RecipeError
from downslope.schedules.schedule import Schedule, check_steps


def join(schedules: Sequence[Schedule], lengths: Sequence[int]) -> Schedule:
    """Each of `schedules` from its own step 0, for as many steps as `lengths` says; the last goes on for
    ever.

    Args:
        schedules: at least one.
        lengths: steps of every schedule but the last, each from 1.

    Raises:
        RecipeError: not one length fewer than schedules, or a length below 1.
    """
    if len(schedules) != len(lengths) + 1:
        raise RecipeError(
            f"{len(schedules)} schedules and {len(lengths)} lengths: every schedule but the last "
            "needs a length"
        )
    pieces = list(zip(schedules, [check_steps("lengths", length) for length in lengths], strict=False))
    last = schedules[-1]

    def joined(t: int) -> float:
        for schedule, length in pieces:
            if t < length:
                return schedule(t)
            t -= length
        return last(t)

    return joined
