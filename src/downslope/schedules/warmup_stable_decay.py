"""A learning rate that rises, stays, and falls at the end, so that a run can be made longer before it
falls.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from downslope.core.errors import RecipeError
from downslope.schedules.schedule import Schedule, check_factor, check_share, check_steps, of_steps

SHAPES: dict[str, Callable[[float], float]] = {
    "linear": lambda x: 1.0 - x,
    "cosine": lambda x: (1.0 + math.cos(math.pi * x)) / 2.0,
    "sqrt": lambda x: 1.0 - math.sqrt(x),
    "square": lambda x: (1.0 - x) ** 2,
}
"""From the share of the fall that is over to what is left of the height."""


def warmup_stable_decay(
    total_steps: int, *, rise: float = 0.05, fall: float = 0.2, final: float = 0.0, shape: str = "linear"
) -> Schedule:
    """In a line to 1 over the share `rise` of the run, 1 until the last `fall` of it, then down to `final`.

    At step t of a rise of W steps the factor is ``(t + 1) / W``; x of the fall over, it is ``final + (1 -
    final) f(x)``, with f(x) ``1 - x`` ("linear"), ``(1 + cos(pi x)) / 2`` ("cosine"), ``1 - sqrt(x)``
    ("sqrt") or ``(1 - x)**2`` ("square").

    Args:
        total_steps: length of the run, from 1.
        rise: share of the run, in [0, 1]; 0 where the recipe has a `warmup`.
        fall: share of the run, in [0, 1], with `rise` at most 1; 0.1 to 0.2 is usual.
        final: factor after the run, in [0, 1].
        shape: of the fall.

    Raises:
        RecipeError: an argument outside its domain.

    Source: Hu et al. 2024, "MiniCPM", section 4 (warm-up, stable, decay); Hägele et al. 2024, "Scaling laws
    and compute-optimal training beyond fixed training durations", for the shapes.
    """
    check_steps("total_steps", total_steps)
    up, down = check_share("rise", rise), check_share("fall", fall)
    end = check_factor("final", final)
    if up + down > 1.0 + 1e-12:
        raise RecipeError(f"rise={rise!r} and fall={fall!r}: are shares of one run, at most 1 together")
    if shape not in SHAPES:
        raise RecipeError(f"shape={shape!r}: must be one of {', '.join(SHAPES)}")
    risen = round(up * total_steps)
    falls = total_steps - round(down * total_steps)

    def factor(t: int) -> float:
        if t < risen:
            return (t + 1) / risen
        if t < falls or falls == total_steps:
            return 1.0
        over = min((t - falls) / (total_steps - falls), 1.0)
        return end + (1.0 - end) * SHAPES[shape](over)

    return of_steps(factor)
