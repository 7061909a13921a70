"""A learning rate that falls as one over the root of time."""

from __future__ import annotations

import math

from downslope.schedules.schedule import Schedule, check_steps, of_steps


def inverse_sqrt(total_steps: int, *, timescale: int | None = None) -> Schedule:
    """``sqrt(timescale / (timescale + t))`` at step t: 1 at first, ``1/sqrt(2)`` after `timescale` steps.

    Args:
        total_steps: length of the run, from 1.
        timescale: steps from 1 until the fall is under way; a tenth of the run if left out.

    Raises:
        RecipeError: an argument outside its domain.

    Differs from: Vaswani et al. 2017, section 5.3, who have ``sqrt(timescale / t)`` after a warm-up of
    `timescale` steps; shifted here so that it starts at 1 without one.
    Source: Robbins and Monro 1951 for the rate; Vaswani et al. 2017 for the use.
    """
    check_steps("total_steps", total_steps)
    scale = check_steps("timescale", max(1, total_steps // 10) if timescale is None else timescale)
    return of_steps(lambda t: math.sqrt(scale / (scale + t)))
