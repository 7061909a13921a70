"""What the strategies that stop early share: how they ask for training, and how they rank at a rung."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from downslope.core.errors import InputError

Train = Callable[[Sequence[int], int], Sequence[float]]
"""``(members, units) -> losses``: train these members on until each has had so many units of training since
its beginning, and give the loss of each there; smaller is better, not finite where training failed."""

Ask = Callable[[int], Sequence[int]]
"""``n -> members``: begin up to n new members, hyper-parameters and all; fewer where a budget ends."""


class Stopped(Exception):  # noqa: N818 (nothing went wrong)
    """Training ended before everybody was at the rung: interrupted, or out of time; what is there is kept."""


@dataclass(frozen=True)
class Rung:
    """One rung of one bracket: who was compared after how much training, and who went on."""

    units: int
    """Units of training (epochs or steps) that each member had by then."""
    members: tuple[int, ...]
    """In the order in which they began."""
    values: tuple[float, ...]
    """Loss of each, in the same order."""
    kept: tuple[int, ...]
    """Who goes on, the best first; at the last rung, the best alone."""
    bracket: int = 0
    """Of which bracket of Hyperband; 0 where there is one."""


@dataclass(frozen=True)
class Ladder:
    """All rungs that a strategy climbed, in order."""

    rungs: tuple[Rung, ...]

    @property
    def best(self) -> int | None:
        """The member of the smallest loss among those with the most training; None if no loss is finite."""
        longest = max((rung.units for rung in self.rungs), default=0)
        found = [
            (value, member)
            for rung in self.rungs
            if rung.units == longest
            for member, value in zip(rung.members, rung.values, strict=True)
            if math.isfinite(value)
        ]
        return min(found)[1] if found else None

    @property
    def reached(self) -> dict[int, tuple[int, float]]:
        """Member to the units that it had at its last rung, and its loss there."""
        found: dict[int, tuple[int, float]] = {}
        for rung in self.rungs:
            for member, value in zip(rung.members, rung.values, strict=True):
                if member not in found or rung.units > found[member][0]:
                    found[member] = rung.units, value
        return found

    @property
    def units(self) -> int:
        """Units of training in all, each counted once: members go on from where they stood."""
        return sum(units for units, _ in self.reached.values())


def ranked(members: Sequence[int], values: Sequence[float]) -> list[int]:
    """Members, the smallest loss first; what is not finite comes last, and ties stay in the order given.

    Raises:
        InputError: not one value for each member.
    """
    if len(members) != len(values):
        raise InputError(f"{len(values)} values for {len(members)} members: training must give one for each")
    key = [value if math.isfinite(value) else math.inf for value in values]
    return [members[i] for i in sorted(range(len(members)), key=key.__getitem__)]


def finite(members: Sequence[int], values: Sequence[float]) -> set[int]:
    """The members whose loss is a number; no other is worth going on with."""
    return {member for member, value in zip(members, values, strict=True) if math.isfinite(value)}


def check_units(name: str, value: Any, least: int = 1) -> int:
    """`value`, if it is a whole number from `least`.

    Raises:
        InputError: anything else.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{name}={value!r}: must be a whole number from {least}")
    return value
