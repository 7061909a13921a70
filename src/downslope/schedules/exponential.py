"""A learning rate that falls by the same share at every step."""

from __future__ import annotations

from downslope.schedules.schedule import Schedule, check_factor, check_steps, of_steps


def exponential(total_steps: int, *, final: float = 0.01) -> Schedule:
    """``final ** (t / total_steps)`` at step t: from 1 to `final` over the run, and on at the same pace.

    Equivalent to ``torch.optim.lr_scheduler.ExponentialLR(gamma=final ** (1 / total_steps))``.

    Args:
        total_steps: length of the run, from 1.
        final: factor after `total_steps`, in (0, 1].

    Raises:
        RecipeError: an argument outside its domain.
    """
    check_steps("total_steps", total_steps)
    end = check_factor("final", final, zero=False)
    return of_steps(lambda t: end ** (t / total_steps))
