"""One cycle: the learning rate rises to its highest and falls to next to nothing, the momentum goes against
it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from downslope.core.errors import RecipeError
from downslope.schedules.schedule import Schedule, check_factor, check_share, check_steps, of_steps

ANNEALS = ("cos", "linear")


def one_cycle(
    total_steps: int, *, rise: float = 0.3, start: float = 0.04, final: float = 4e-6, anneal: str = "cos"
) -> Schedule:
    """From `start` to 1 over the share `rise` of the run, and down to `final` over the rest.

    The rate of the recipe is the highest, which may be larger than a constant one. Equivalent to
    ``torch.optim.lr_scheduler.OneCycleLR(max_lr=lr, pct_start=rise)`` with ``div_factor = 1 / start`` and
    ``final_div_factor = start / final``; for its momentum see `one_cycle_momentum`.

    Args:
        total_steps: length of the run, from 1.
        rise: share of the run in which the rate rises, in [0, 1].
        start: factor at the first step, in [0, 1]; torch's 1/25.
        final: factor at the last step, in [0, 1].
        anneal: ``"cos"`` along half a cosine, ``"linear"`` in a line.

    Raises:
        RecipeError: an argument outside its domain.

    Source: Smith and Topin 2018, "Super-convergence", section 3; the cosine and the numbers are fast.ai's.
    """
    low, end = check_factor("start", start), check_factor("final", final)
    return _cycle(total_steps, rise, (low, 1.0, end), anneal)


def one_cycle_momentum(
    total_steps: int, *, rise: float = 0.3, low: float = 0.85 / 0.95, anneal: str = "cos"
) -> Schedule:
    """From 1 to `low` while `one_cycle` rises, and back to 1: the factor of the momentum that goes with it.

    A recipe has it as ``momentum=0.95, schedules={"momentum": "one_cycle_momentum"}``, of Adam as
    ``betas=(0.95, 0.999), schedules={"betas": ["one_cycle_momentum", "constant"]}``; an optimizer as
    ``SGD(params, momentum=0.95, schedules={"momentum": one_cycle_momentum(900)})``: the momentum that is set
    is the highest. Equivalent to the cycle
    of ``torch.optim.lr_scheduler.OneCycleLR(base_momentum=low momentum, max_momentum=momentum)``.

    Args:
        total_steps: length of the run, from 1.
        rise: as of `one_cycle`.
        low: factor at the highest rate, in [0, 1]: 0.85 of a momentum of 0.95 unless told otherwise.
        anneal: ``"cos"`` or ``"linear"``.

    Raises:
        RecipeError: an argument outside its domain.

    Source: Smith 2018, "A disciplined approach to neural network hyper-parameters: part 1".
    """
    return _cycle(total_steps, rise, (1.0, check_factor("low", low), 1.0), anneal)


def _cycle(total_steps: int, rise: float, through: tuple[float, float, float], anneal: str) -> Schedule:
    check_steps("total_steps", total_steps)
    top = check_share("rise", rise) * total_steps - 1.0
    if anneal not in ANNEALS:
        raise RecipeError(f"anneal={anneal!r}: must be 'cos' or 'linear', the line along which the rate goes")
    between = _along_cosine if anneal == "cos" else _along_line
    first, middle, last = through
    left = total_steps - 1.0 - top

    def at(t: int) -> float:
        if t < top:
            return between(first, middle, t / top)
        return between(middle, last, min((t - top) / left, 1.0)) if left > 0.0 else middle

    return of_steps(at)


Between = Callable[[float, float, float], float]


def _along_cosine(a: float, b: float, share: float) -> float:
    return b + (a - b) / 2.0 * (1.0 + math.cos(math.pi * share))


def _along_line(a: float, b: float, share: float) -> float:
    return a + (b - a) * share
