"""Successive halving: train many members a little, keep the better ones, train those longer, and so on.

Synchronous: at a rung all members are compared after the same training, so that the outcome hangs on the
losses and not on the order in which they came. How often it loses the best: `downslope.tuning.bounds`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from downslope.core.errors import InputError
from downslope.tuning.rungs import Ask, Ladder, Rung, Stopped, Train, check_units, finite, ranked


@dataclass(frozen=True, kw_only=True)
class Halving:
    """Keep the best ``1 / eta`` of the members at each rung.

    Rung k compares ``n_k = max(1, floor(n / eta**k))`` members after ``r_k = least * eta**k`` units of
    training each, up to `most`, which is always the last rung. A member goes on from where it stood, so that
    all of it costs about ``n * least * (1 + (rungs - 1) * (1 - 1 / eta))`` units, against ``n * most``
    without halving. A member whose loss is not finite goes no further, whatever its rank.

    Args:
        most: Units of training (epochs of the recipe, or its steps) that the last ones get, from 1.
        least: Units until the first comparison, in [1, most].
        eta: One in how many goes on, from 2; 3 or 4 is usual.

    Raises:
        InputError: an argument outside its domain.

    Differs from: Karnin et al. 2013, who fix the budget in all and train anew at each rung.
    Source: Karnin, Koren and Somekh 2013, "Almost optimal exploration in multi-armed bandits", algorithm 3;
    Jamieson and Talwalkar 2016, "Non-stochastic best arm identification"; rungs with eta as in Li et al.
    2018, algorithm 1.
    """

    most: int
    least: int = 1
    eta: int = 3

    def __post_init__(self) -> None:
        check_units("most", self.most)
        check_units("least", self.least)
        check_units("eta", self.eta, 2)
        if self.least > self.most:
            raise InputError(
                f"least={self.least} with most={self.most}: the first rung must not be above the last"
            )

    @property
    def rungs(self) -> list[int]:
        """Units at each rung: ``least * eta**k`` below `most`, then `most`."""
        found, units = list[int](), self.least
        while units < self.most:
            found.append(units)
            units *= self.eta
        return [*found, self.most]

    def plan(self, members: int) -> list[tuple[int, int]]:
        """``(members, units)`` of each rung for so many at the start; the last may be of several."""
        check_units("members", members)
        return [(max(1, members // self.eta**k), units) for k, units in enumerate(self.rungs)]

    def cost(self, members: int) -> int:
        """Units of training in all: each member's from its last rung to the next."""
        former, units = 0, 0
        for n, to in self.plan(members):
            units, former = units + n * (to - former), to
        return units

    def run(self, train: Train, ask: Ask, trials: int) -> Ladder:
        """Begin `trials` members and climb.

        Args:
            train: Trains members on and gives their losses.
            ask: Begins members.
            trials: How many, from 1.

        Raises:
            InputError: no member, or training did not give one loss for each.
        """
        members = ask(check_units("trials", trials))
        return Ladder(tuple(climb(train, members, self.plan(len(members)))) if members else ())


def climb(
    train: Train, members: Sequence[int], plan: Sequence[tuple[int, int]], bracket: int = 0
) -> list[Rung]:
    """The rungs of one bracket; where training is stopped, those that everybody reached.

    Args:
        train: Trains members on and gives their losses.
        members: Who begins; fewer than planned where a budget ended.
        plan: Members and units at each rung.
        bracket: Number that the rungs bear.

    Raises:
        InputError: training did not give one loss for each.
    """
    rungs: list[Rung] = []
    going: list[int] = list(members)
    for place, (_, units) in enumerate(plan):
        if not going:
            break
        try:
            values = tuple(float(value) for value in train(going, units))
        except Stopped:
            break
        order, alive = ranked(going, values), finite(going, values)
        keep = plan[place + 1][0] if place + 1 < len(plan) else 1
        kept = tuple(member for member in order[:keep] if member in alive)
        rungs.append(Rung(units, tuple(going), values, kept, bracket))
        going = [member for member in rungs[-1].members if member in kept]
    return rungs
