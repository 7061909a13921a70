"""A learning rate that falls again and again, as stochastic weight averaging was proposed with."""

from __future__ import annotations

from downslope.schedules.schedule import Schedule, check_factor, check_steps, of_steps

CYCLES = 10
"""Cycles of a run, unless told otherwise."""


def cyclic(total_steps: int, *, cycles: int = CYCLES, final: float = 0.1) -> Schedule:
    """``1 - (1 - final) (t mod c) / (c - 1)`` at step t, c = total_steps // cycles: a saw with falling teeth.

    The last step of each cycle has the smallest rate. ``average="swa"`` takes up the weights after it.

    Args:
        total_steps: length of the run, from 1; what is left of it beyond whole cycles begins another.
        cycles: from 1; a cycle has two steps at least, so that it falls.
        final: factor at the end of a cycle, in [0, 1].

    Raises:
        RecipeError: an argument outside its domain.

    Source: Izmailov et al. 2018, "Averaging weights leads to wider optima and better generalization", section
    3.1, counted here from 0.
    """
    check_steps("total_steps", total_steps)
    length = max(total_steps // check_steps("cycles", cycles), 2)
    low = check_factor("final", final)
    return of_steps(lambda t: 1.0 - (1.0 - low) * (t % length) / (length - 1))
