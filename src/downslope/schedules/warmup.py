"""A learning rate that rises before its schedule begins."""

from __future__ import annotations

from collections.abc import Sequence

from downslope.schedules.combined import combined
from downslope.schedules.schedule import Schedule, check_factor, check_steps


def warmup(schedule: Schedule, steps: int, *, start: float = 0.0) -> Schedule:
    """Linear from `start` to 1 over `steps`, then `schedule` from its own step 0.

    At step t < steps the factor is ``start + (1 - start) (t + 1) / steps``, so that the first step moves.

    Args:
        schedule: what follows; give it the steps that are left. A `plateau` hears the rise's measurements
            too.
        steps: length of the rise, from 1.
        start: factor that the rise starts from, in [0, 1].

    Raises:
        RecipeError: an argument outside its domain.

    Source: Goyal et al. 2017, "Accurate, large minibatch SGD", section 2.2.
    """
    check_steps("steps", steps)
    low = check_factor("start", start)

    def at(parts: Sequence[Schedule], t: int) -> float:
        return low + (1.0 - low) * (t + 1) / steps if t < steps else parts[0](t - steps)

    return combined([schedule], at)
