"""Hyperband: successive halving from several first rungs, as nobody knows beforehand which one is right."""

from __future__ import annotations

from dataclasses import dataclass

from downslope.tuning.halving import climb
from downslope.tuning.rungs import Ask, Ladder, Rung, Train, check_units


@dataclass(frozen=True)
class Bracket:
    """One run of successive halving: ``(members, units)`` of each rung."""

    number: int
    """s: how many times it halves; 0 trains everyone to the end."""
    rungs: tuple[tuple[int, int], ...]

    @property
    def members(self) -> int:
        """How many begin."""
        return self.rungs[0][0]


@dataclass(frozen=True, kw_only=True)
class Hyperband:
    """Brackets ``s = s_max, ..., 0`` of successive halving, of about the same cost each.

    With ``s_max = floor(log_eta(most))`` bracket s begins ``n = ceil((s_max + 1) eta**s / (s + 1))`` members
    with ``most / eta**s`` units and keeps ``floor(n / eta**i)`` at rung i. In all ``s_max + 1`` times as dear
    as the bracket that would have been right.

    Args:
        most: R, units of training (epochs of the recipe, or its steps) that the last ones get, from 1.
        eta: One in how many goes on, from 2; 3 or 4 is usual.

    Raises:
        InputError: an argument outside its domain.

    Differs from: the paper where `most` is no power of eta: units are rounded to whole ones; the program of
    its authors, which rounds ``(s_max + 1) / (s + 1)`` down first and so begins 27, 9 and 6 members where
    algorithm 1 begins 34, 15 and 8.
    Source: Li, Jamieson, DeSalvo, Rostamizadeh and Talwalkar 2018, "Hyperband: a novel bandit-based approach
    to hyperparameter optimization", JMLR 18, algorithm 1.
    """

    most: int
    eta: int = 3

    def __post_init__(self) -> None:
        check_units("most", self.most)
        check_units("eta", self.eta, 2)

    @property
    def halvings(self) -> int:
        """s_max: the largest s with ``eta**s <= most``."""
        s = 0
        while self.eta ** (s + 1) <= self.most:
            s += 1
        return s

    @property
    def brackets(self) -> list[Bracket]:
        """From the one that halves most to plain random search."""
        found: list[Bracket] = []
        for s in range(self.halvings, -1, -1):
            n = -(-(self.halvings + 1) * self.eta**s // (s + 1))
            rungs = [(n // self.eta**i, self._units(s - i)) for i in range(s + 1)]
            found.append(Bracket(s, tuple(rungs)))
        return found

    def _units(self, below: int) -> int:
        """``most / eta**below`` to the nearest whole number, from 1."""
        return max(1, round(self.most / self.eta**below))

    @property
    def members(self) -> int:
        """How many begin in one pass over all brackets."""
        return sum(each.members for each in self.brackets)

    def run(self, train: Train, ask: Ask, trials: int | None = None) -> Ladder:
        """One bracket after the other, and from the first again until `trials` members have begun.

        Args:
            train: Trains members on and gives their losses.
            ask: Begins members; none means that a budget has ended.
            trials: How many in all, from 1; left out, one pass. A last bracket that they do not fill keeps
                the same shares of those that it has.

        Raises:
            InputError: training did not give one loss for each.
        """
        left = self.members if trials is None else check_units("trials", trials)
        rungs: list[Rung] = []
        while left > 0:
            for bracket in self.brackets:
                members = list(ask(min(bracket.members, left))) if left > 0 else []
                if not members:
                    return Ladder(tuple(rungs))
                left -= len(members)
                scaled = [(max(1, n * len(members) // bracket.members), units) for n, units in bracket.rungs]
                found = climb(train, members, scaled, bracket.number)
                rungs += found
                if len(found) < len(scaled) and (not found or found[-1].kept):  # training was stopped
                    return Ladder(tuple(rungs))
        return Ladder(tuple(rungs))
