"""What a sampled step costs beyond a plain one, from the times of the steps as they go by."""

from __future__ import annotations

import statistics
from collections import deque

PLAIN = 5
"""Plain steps after which their median is taken for what a step costs."""


class Pace:
    """Times of plain and of sampled steps.

    The median leaves out what happens between steps now and then, such as a validation. Of the few sampled
    steps the quickest counts: other work on the machine only makes them slower, and a price that is too high
    leaves the end of a run unseen.
    """

    def __init__(self) -> None:
        self._plain: deque[float] = deque(maxlen=32)
        self._sampled: deque[float] = deque(maxlen=5)

    def plain(self, seconds: float) -> bool:
        """Note a step that was not sampled; True when a price can be formed for the first time."""
        self._plain.append(seconds)
        return len(self._plain) == PLAIN

    def sampled(self, seconds: float) -> None:
        """Note a sampled step."""
        self._sampled.append(seconds)

    @property
    def price(self) -> float | None:
        """Cost of a sampled step beyond a plain one, in plain steps, in [0.05, 50]; None while unknown."""
        if len(self._plain) < PLAIN or not self._sampled:
            return None
        usual = statistics.median(self._plain)
        extra = min(self._sampled) / max(usual, 1e-9) - 1.0
        return min(max(extra, 0.05), 50.0)

    @property
    def usual(self) -> float:
        """Seconds of a plain step; 0 while unknown."""
        return statistics.median(self._plain) if self._plain else 0.0
