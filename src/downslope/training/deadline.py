"""The time that a run is given, and what of it the measurement at its end takes."""

from __future__ import annotations

import math
import time

from downslope.core.fixed_sample import SCORED

LEAST = 256
"""Training examples that are looked at in the end, however little time is left."""

MOST_VALID, MOST_TRAIN = 0.5, 0.1
"""Shares of the time that are kept for the last look at the validation and at the training data, at most."""


class Deadline:
    """When training has to end so that the measurement after it fits in.

    How long that takes is told by the evaluations on the way; before the first one nothing is kept for it.

    Args:
        seconds: Of the whole run, from its preparation to its summary; None for no limit.
        train: Training examples; None where that is not known.
        valid: Validation examples; 0 without any, None where their number is not known.
    """

    def __init__(self, seconds: float | None, train: int | None, valid: int | None) -> None:
        self.seconds, self.train, self.valid = math.inf if seconds is None else seconds, train, valid
        self.each: float | None = None
        """Seconds that an evaluation takes for an example; None before the first."""
        self.begin()

    def begin(self, spent: float = 0.0) -> None:
        """Count from `spent` seconds ago."""
        self.begun = time.monotonic() - spent

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return self.begun + self.seconds - time.monotonic()

    def took(self, seconds: float, examples: int) -> None:
        """Take note of an evaluation; the latest counts."""
        self.each = seconds / max(examples, 1)

    def over(self, seen: int) -> bool:
        """Whether no step fits in any more, after `seen` training examples."""
        if math.isinf(self.seconds):
            return False
        each = self.each or 0.0
        valid = min(MOST_VALID * self.seconds, each * (self.valid or 0))
        train = min(MOST_TRAIN * self.seconds, each * min(self.train or 0, max(SCORED, seen)))
        return self.left < valid + train

    def judged(self, seen: int) -> int | None:
        """Training examples to look at in the end; None for all of them.

        All that there are where training saw as many, else as many as it saw, but at least `SCORED`; with a
        limit of time no more than fit in, but at least `LEAST`.
        """
        if self.train is None:
            return None
        count = max(SCORED, seen)
        if math.isfinite(self.seconds):
            fits = LEAST if not self.each else int(max(self.left, 0.0) / self.each)
            count = min(count, max(LEAST, fits))
        return None if count >= self.train else count
