"""A learning rate that falls along half a cosine and starts anew, in cycles that may grow."""

from __future__ import annotations

import math

from downslope.schedules.schedule import Schedule, check_factor, check_steps, of_steps


def cosine_restarts(total_steps: int, *, cycles: int = 3, growth: int = 2, final: float = 0.0) -> Schedule:
    """``final + (1 - final) (1 + cos(pi s / T_i)) / 2`` at s steps since the last restart, in cycles of T_i
    steps.

    ``T_{i+1} = growth T_i``, the first so long that `cycles` of them fill the run. Equivalent to
    ``torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(T_0, T_mult=growth)`` with that T_0.

    Args:
        total_steps: length of the run, from 1; after it the cycles go on.
        cycles: in the run, from 1; where they do not fill it evenly the last is cut short.
        growth: what each cycle is longer than the one before, a whole number from 1; the paper has 1 and 2.
        final: factor that each cycle falls to, in [0, 1].

    Raises:
        RecipeError: an argument outside its domain.

    Source: Loshchilov and Hutter 2017, "SGDR: stochastic gradient descent with warm restarts", eq. 5.
    """
    check_steps("total_steps", total_steps)
    check_steps("cycles", cycles)
    check_steps("growth", growth)
    end = check_factor("final", final)
    first = -(-total_steps // sum(growth**i for i in range(cycles)))

    def factor(t: int) -> float:
        length, since = first, t % first if growth == 1 else t
        while since >= length:
            since, length = since - length, length * growth
        return end + (1.0 - end) * (1.0 + math.cos(math.pi * since / length)) / 2.0

    return of_steps(factor)
