"""Losses that were not finite in a training that went on: a batch that was skipped, or that moved nothing.

A loss that leaves the numbers for good takes the weights with it, and every later one is not finite either.
One after which finite ones come has not: it is counted, and left out of what the training is judged by.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Told(NamedTuple):
    """The loss of a step, once it is known as a number."""

    step: int
    loss: float
    lr: float


@dataclass
class Lapses:
    """What is counted of the losses of one optimizer.

    Attributes:
        heard: Losses that were heard.
        count: Those of them that were not finite.
        first: The step of the first one.
    """

    heard: int = 0
    count: int = 0
    first: int | None = None
    longest: int = 0
    """The most in a row after which a finite one came."""
    _row: int = 0
    _waiting: list[Told] = field(default_factory=list[Told])

    def hear(self, step: int, loss: float) -> bool:
        """Count a loss; whether it is finite."""
        self.heard += 1
        if -math.inf < loss < math.inf:
            self.longest, self._row = max(self.longest, self._row), 0
            return True
        self.count, self._row = self.count + 1, self._row + 1
        self.first = step if self.first is None else self.first
        return False

    def passed(self, told: Sequence[Told]) -> list[Told]:
        """What may be written down of some losses: none that is not finite, unless none comes after it."""
        finite = [i for i, each in enumerate(told) if math.isfinite(each.loss)]
        if not finite:
            self._waiting += told
            return []
        self._waiting = list(told[finite[-1] + 1 :])
        return [told[i] for i in finite]

    @property
    def usual(self) -> bool:
        """Whether the latest losses are not finite, and no more of them than came and went before."""
        return 0 < self._row <= self.longest

    def left(self) -> list[Told]:
        """The losses at the end that are not finite: after them none was."""
        waiting, self._waiting = self._waiting, []
        return waiting

    def measured(self) -> dict[str, Any]:
        """How many there were."""
        return {"count": self.count, "heard": self.heard, "first": self.first}
