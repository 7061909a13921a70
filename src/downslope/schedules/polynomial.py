"""A learning rate that falls as a power of the time that is left; in a line at power 1."""

from __future__ import annotations

import math

from downslope.core.errors import RecipeError
from downslope.schedules.schedule import Schedule, as_number, check_factor, check_steps, of_steps


def polynomial(total_steps: int, *, power: float = 1.0, final: float = 0.0) -> Schedule:
    """``final + (1 - final) (1 - t / total_steps)**power`` at step t, and `final` ever after.

    Equivalent to ``torch.optim.lr_scheduler.PolynomialLR(total_iters=total_steps, power=power)`` at final 0,
    and to ``LinearLR`` at power 1.

    Args:
        total_steps: length of the run, from 1.
        power: in (0, inf): 1 is a line, above it the rate falls early, below it late.
        final: factor after `total_steps`, in [0, 1].

    Raises:
        RecipeError: an argument outside its domain.
    """
    check_steps("total_steps", total_steps)
    end, exponent = check_factor("final", final), as_number(power)
    if not 0.0 < exponent < math.inf:
        raise RecipeError(f"power={power!r}: must lie in (0, inf), 1 is a fall in a line")
    return of_steps(lambda t: end + (1.0 - end) * (1.0 - min(t / total_steps, 1.0)) ** exponent)
