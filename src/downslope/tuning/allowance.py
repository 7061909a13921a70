"""What of a budget is for what: the search, its first batch, the confirmation."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from downslope.tuning.plan import Plan

RESERVE = 0.2
"""Share of a budget of time or steps that is kept for the confirmation."""

SLACK = 1.1
"""What a trial is reckoned to take of the time, relative to those before it."""

FIRST = 0.25
"""Share of the time that the first batch takes as it is reckoned: by a few steps, which may mislead."""


def share_of(whole: float, run: float, confirm: int) -> float:
    """The share of a budget that the search has: all of it where the rest would not hold two runs.

    Args:
        whole: Of time or of steps.
        run: What a run takes of it.
        confirm: How many of the best are to be confirmed.
    """
    return 1 - RESERVE if confirm and RESERVE * whole >= 2 * run else 1.0


def fitting(plan: Plan, top: int, time: tuple[float, float], steps: tuple[int, float]) -> tuple[int, int]:
    """How many of the best, with how many seeds, what is left of the budget confirms: the best first.

    Rather fewer of the best than fewer seeds, down to two; of less than two runs there is no interval.

    Args:
        plan: Of the search.
        top: How many there are to confirm.
        time: Seconds spent, and those of a trial.
        steps: Steps spent, and those of a trial.
    """
    left = float(top * plan.fresh)
    for whole, (spent, each) in ((plan.seconds, time), (plan.steps, steps)):
        if whole is not None and each:
            left = min(left, plan.seeds * (whole - spent) / each)
    count = max(1, min(top, int(left / plan.fresh)))
    fresh = min(plan.fresh, int(left / count))
    return (count, fresh) if fresh >= 2 else (0, 0)
