"""A learning rate that falls along half a cosine."""

from __future__ import annotations

import math

from downslope.schedules.schedule import Schedule, check_factor, check_steps, of_steps


def cosine(total_steps: int, *, final: float = 0.0) -> Schedule:
    """``final + (1 - final) (1 + cos(pi t / total_steps)) / 2`` at step t, and `final` ever after.

    Equivalent to ``torch.optim.lr_scheduler.CosineAnnealingLR(T_max=total_steps)`` up to `total_steps`.

    Args:
        total_steps: length of the run, from 1.
        final: factor after `total_steps`, in [0, 1].

    Raises:
        RecipeError: an argument outside its domain.

    Source: Loshchilov and Hutter 2017, "SGDR", eq. 5 without restarts.
    """
    check_steps("total_steps", total_steps)
    end = check_factor("final", final)
    return of_steps(lambda t: end + (1.0 - end) * (1.0 + math.cos(math.pi * min(t / total_steps, 1.0))) / 2.0)
