"""Grid search: every combination of a few values of each dimension, in a shuffled order."""

from __future__ import annotations

import itertools
import math
import zlib
from collections.abc import Sequence
from typing import Any, Literal

from downslope.core.randomness import address
from downslope.core.space import Choice, Space, holding
from downslope.tuning.samplers.distinct import mark
from downslope.tuning.samplers.sampler import Sampler, Seen, drawn

STEPS = 5
"""Values of a dimension where the number of trials is not known."""


class Grid(Sampler):
    """The product of ``dimension.grid(k)``: all options of choices, and as many steps as trials allow.

    For T trials, d dimensions with ends and c combinations of options, ``k = floor((T / c)^(1/d))``, from 2.
    Shuffled by the seed, so that a search which ends early has not seen one corner only. It ends when every
    combination is there.
    """

    name = "grid"

    def __init__(
        self,
        space: Space,
        *,
        seed: int = 0,
        direction: Literal["min", "max"] = "min",
        trials: int | None = None,
    ) -> None:
        super().__init__(space, seed=seed, direction=direction, trials=trials)
        self.points = sorted(_points(self.space, steps(self.space, trials)), key=self._place)

    def ask(self, seen: Sequence[Seen], n: int) -> list[dict[str, Any]]:
        """The next points of the shuffled grid; none when all are there."""
        first = drawn(seen)
        return self.points[first : first + n]

    def _place(self, point: dict[str, Any]) -> int:
        return address(self.seed, "trial", zlib.crc32(repr(point).encode()))


def steps(space: Space, trials: int | None) -> int:
    """Values of each dimension that has ends, so that the grid has about `trials` points and no more."""
    options = math.prod(len(each.grid(1)) for each in space.values() if isinstance(each.inner, Choice))
    ended = sum(not isinstance(each.inner, Choice) for each in space.values())
    if trials is None or not ended:
        return STEPS
    most = 2
    while (most + 1) ** ended * options <= trials:
        most += 1
    return most


def _points(space: Space, k: int) -> list[dict[str, Any]]:
    axes = [[(key, value) for value in each.grid(k)] for key, each in space.items()]
    points = [holding(space, dict(combination)) for combination in itertools.product(*axes)]
    return list({mark(each): each for each in points}.values()) if _conditional(space) else points


def _conditional(space: Space) -> bool:
    return any(each.inner is not each for each in space.values())
