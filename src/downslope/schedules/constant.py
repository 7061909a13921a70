"""A learning rate that stays as it is."""

from __future__ import annotations

from downslope.schedules.schedule import Schedule, check_steps, of_steps


def constant(total_steps: int) -> Schedule:
    """``1`` at every step.

    Args:
        total_steps: length of the run, from 1; it changes nothing.

    Raises:
        RecipeError: an argument outside its domain.
    """
    check_steps("total_steps", total_steps)
    return of_steps(lambda _: 1.0)
