"""A learning rate in stairs of any height, as a search finds them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from downslope.core.errors import RecipeError
from downslope.schedules.schedule import Schedule, as_number, check_list, check_steps, of_steps


def stairs(
    total_steps: int, *, at: Sequence[float] = (0.5, 0.75), factors: Sequence[float] = (0.1, 0.01)
) -> Schedule:
    """``factors[i]`` from the share ``at[i]`` of the run on, 1 before the first.

    Equivalent to ``torch.optim.lr_scheduler.MultiStepLR`` where each factor is gamma times the one before.

    Args:
        total_steps: length of the run, from 1; a stair begins at ``ceil(at[i] * total_steps)``.
        at: shares of the run, in (0, 1), rising; half and three quarters if left out.
        factors: of the rate of the recipe, each from 0; they may be above 1.

    Raises:
        RecipeError: an argument outside its domain.

    Source: none; population-based training gives its schedule so (Jaderberg et al. 2017).
    """
    check_steps("total_steps", total_steps)
    check_list("at", at, "such as (0.5, 0.75)")
    check_list("factors", factors, "such as (0.1, 0.01)")
    places, heights = [as_number(each) for each in at], [as_number(each) for each in factors]
    if places != sorted(set(places)) or not all(0 < each < 1 for each in places):
        raise RecipeError(f"at={list(at)!r}: must rise within (0, 1), they are shares of the run")
    if len(heights) != len(places) or not all(math.isfinite(each) and each >= 0 for each in heights):
        raise RecipeError(
            f"factors={list(factors)!r}: must be {len(places)} numbers from 0, one for each of at"
        )
    begins = [math.ceil(share * total_steps - 1e-9) for share in places]

    def factor(t: int) -> float:
        reached = [height for begin, height in zip(begins, heights, strict=True) if begin <= t]
        return reached[-1] if reached else 1.0

    return of_steps(factor)
