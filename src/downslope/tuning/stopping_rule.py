"""Rules that end a member as it reports, for training that cannot be paused: halving, and the median.

A rule is called with every loss that comes in: ``rule(member, units, loss) -> bool``, True ends the member.
Both compare with what has come in so far, so that **who is ended hangs on the order of the reports**;
`Halving` and `Hyperband` do not.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field

from downslope.core.errors import InputError
from downslope.tuning.halving import Halving
from downslope.tuning.rungs import check_units

Rule = Callable[[int, int, float], bool]
"""``(member, units, loss) -> bool``: True ends the member."""


@dataclass(kw_only=True)
class StopHalving:
    """At a rung, end a member that is not among the best ``1 / eta`` of those that have reached it so far.

    A member is compared at the first report at or past each rung. The first ``eta - 1`` at a rung go on if
    they are the best so far. Reports in order of falling loss end nobody, in order of rising loss all but
    the first.

    Args:
        most: Units of training that a whole run has, from 1.
        least: Units until the first rung, in [1, most].
        eta: One in how many goes on, from 2.

    Raises:
        InputError: an argument outside its domain.

    Differs from: `Asynchronous`, which pauses a member and may promote it later.
    Source: ASHA (Li et al. 2020) with ends in place of pauses, as in the schedulers of Optuna and Ray Tune.
    """

    most: int
    least: int = 1
    eta: int = 3
    seen: dict[int, dict[int, float]] = field(default_factory=dict[int, dict[int, float]], repr=False)

    def __post_init__(self) -> None:
        rungs = Halving(most=self.most, least=self.least, eta=self.eta).rungs[:-1]
        self.seen = {units: {} for units in rungs}

    def __call__(self, member: int, units: int, loss: float) -> bool:
        """Whether the member ends here."""
        for rung, known in self.seen.items():
            if units < rung or member in known:
                continue
            known[member] = loss if math.isfinite(loss) else math.inf
            ahead = sum(value < known[member] for value in known.values())
            if not math.isfinite(loss) or ahead >= max(1, len(known) // self.eta):
                return True
        return False


@dataclass(kw_only=True)
class StopBelowMedian:
    """End a member whose best loss so far is worse than the median of the others' mean losses so far.

    At u units, each other member that got at least as far counts with the mean of its losses up to u.

    Args:
        warmup: Units before which nobody ends, from 0.
        others: Members to compare with at least, from 1.

    Raises:
        InputError: an argument outside its domain.

    Source: Golovin et al. 2017, "Google Vizier: a service for black-box optimization", its median
    stopping rule.
    """

    warmup: int = 0
    others: int = 5
    curves: dict[int, list[tuple[int, float]]] = field(
        default_factory=dict[int, list[tuple[int, float]]], repr=False
    )

    def __post_init__(self) -> None:
        check_units("warmup", self.warmup, 0)
        check_units("others", self.others)

    def __call__(self, member: int, units: int, loss: float) -> bool:
        """Whether the member ends here."""
        own = self.curves.setdefault(member, [])
        own.append((units, loss if math.isfinite(loss) else math.inf))
        if not math.isfinite(loss):
            return True
        means = [
            statistics.fmean(value for at, value in curve if at <= units)
            for other, curve in self.curves.items()
            if other != member and curve[-1][0] >= units and curve[0][0] <= units
        ]
        if units <= self.warmup or len(means) < self.others:
            return False
        return min(value for _, value in own) > statistics.median(means)


RULES: dict[str, type[StopHalving] | type[StopBelowMedian]] = {
    "stop-halving": StopHalving,
    "median": StopBelowMedian,
}
"""Name to rule."""


def rule_of(name: str, most: int) -> Rule:
    """The rule of this name for runs of `most` units.

    Raises:
        InputError: no such rule.
    """
    if name not in RULES:
        known = ", ".join(RULES)
        raise InputError(f"pruner={name!r}: the rules that end a member as it reports are {known}")
    return StopBelowMedian(warmup=most // 10) if name == "median" else StopHalving(most=most)
