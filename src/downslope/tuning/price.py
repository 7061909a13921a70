"""What a search will cost, told before it starts."""

from __future__ import annotations

import math
from dataclasses import dataclass

from downslope.core.errors import InputError
from downslope.core.space import applied, draw
from downslope.training.price import Price, price
from downslope.tuning.allowance import share_of
from downslope.tuning.plan import Plan

TRIED = (0.5, 0.25, 0.75, 0.0)
"""Places in the ranges at which a trial is timed: the next one where a model cannot be made at the first."""


@dataclass(frozen=True)
class Priced:
    """The price of a plan, where its trials are trained one by one: together they cost less.

    Attributes:
        trials: How many there will be; None where the budget tells.
        each: Seconds of one.
        confirming: Runs of the confirmation, at most.
        seconds: Of all of it, or the limit that was given.
        fits: Trials that fit into a limit of time or steps; None without one.
    """

    trials: int | None
    each: float
    confirming: int
    seconds: float
    fits: int | None

    def __str__(self) -> str:
        what = f"{self.trials} trials" if self.trials is not None else f"about {self.fits} trials"
        if self.trials is not None and self.fits is not None and self.fits < self.trials:
            what = f"{self.trials} trials, of which about {self.fits} fit into the budget"
        then = f", then up to {self.confirming} runs to confirm" if self.confirming else ""
        return f"{what} at about {told(self.each)} each{then}: about {told(self.seconds)} one by one"


def trial(plan: Plan) -> Price:
    """The price of a trial: of one in the middle of the ranges, as what is searched may have no default.

    Raises:
        InputError: none of some trials can be trained.
        KeyboardInterrupt: Ctrl-C in one of the steps.
    """
    failed: InputError | None = None
    for place in TRIED:
        try:
            return price(*applied(plan.problem, plan.recipe, draw(plan.space, [place] * len(plan.space))))
        except InputError as error:
            failed = failed or error
    raise failed or InputError("there is no place in the space to try")


def priced(plan: Plan) -> Priced:
    """The price, from a few steps of a trial.

    Raises:
        InputError: the problem cannot be trained.
        KeyboardInterrupt: Ctrl-C in one of those steps.
    """
    one = trial(plan)
    each = one.seconds * plan.seeds
    fits = [
        int(share_of(whole, run, plan.confirm) * whole / (run * plan.seeds)) if whole and run else None
        for whole, run in ((plan.seconds, one.seconds), (plan.steps, one.steps))
    ]
    most = min((count for count in fits if count is not None), default=None)
    count = plan.trials if most is None else most if plan.trials is None else min(most, plan.trials)
    confirming = _confirming(plan, one, count)
    seconds = (count or 0) * each + confirming * one.seconds
    return Priced(plan.trials, each, confirming, min(seconds, plan.seconds or math.inf), most)


def _confirming(plan: Plan, one: Price, trials: int | None) -> int:
    """Runs of the confirmation at most: of no more than there are trials, in what they leave of a budget."""
    runs = min(plan.confirm, plan.confirm if trials is None else trials) * plan.fresh
    for whole, run in ((plan.seconds, one.seconds), (plan.steps, one.steps)):
        if whole and run:
            runs = min(runs, int((whole - (trials or 0) * plan.seeds * run) / run))
    return runs if runs >= 2 else 0


def told(seconds: float) -> str:
    """Seconds in words: "0.4 s", "31 s", "12 min", "1.6 h"."""
    if seconds < 1:
        return f"{seconds:.2g} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
