"""Schedules one after the other."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Sequence

from downslope.core.errors import RecipeError
from downslope.schedules.combined import combined
from downslope.schedules.schedule import Schedule, check_list, check_steps


def join(schedules: Sequence[Schedule], lengths: Sequence[int] = ()) -> Schedule:
    """Each of `schedules` from its own step 0, for as many steps as `lengths` says; the last goes on for
    ever.

    Args:
        schedules: at least one. A `plateau` among them hears of the measurements while it runs.
        lengths: steps of every schedule but the last, each from 1.

    Raises:
        RecipeError: no lists, not one length fewer than schedules, or a length below 1.
    """
    check_list("schedules", schedules, "as in join([warmup(constant(90), 10), cosine(50)], [100])")
    check_list("lengths", lengths, "as in join([warmup(constant(90), 10), cosine(50)], [100])")
    if len(schedules) != len(lengths) + 1:
        raise RecipeError(
            f"{len(schedules)} schedules and {len(lengths)} lengths: every schedule but the last "
            "needs a length, as in join([warmup(constant(90), 10), cosine(50)], [100])"
        )
    ends = list(itertools.accumulate(check_steps("lengths", length) for length in lengths))

    def running(t: int) -> int:
        return bisect.bisect_right(ends, t)

    def at(parts: Sequence[Schedule], t: int) -> float:
        i = running(t)
        return parts[i](t - ends[i - 1] if i else t)

    return combined(schedules, at, running)
