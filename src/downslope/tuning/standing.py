"""How far a search is, as it is told to whoever shows it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from downslope.tuning.confirmed import foremost
from downslope.tuning.plan import Plan
from downslope.tuning.trial import Trial

Phase = Literal["searching", "confirming", "done"]


@dataclass
class Standing:
    """How far a search is, for whoever shows it.

    Attributes:
        plan: What was asked.
        phase: What goes on.
        trials: Every trial so far.
        running: Number of a trial to the step and measure that it has reached; last who was heard last.
        seconds: Spent so far.
        steps: Optimizer steps so far.
        ended: Trials that have come to an end.
        best: The best so far.
    """

    plan: Plan
    phase: Phase = "searching"
    trials: Sequence[Trial] = ()
    running: dict[int, tuple[int, float]] = field(default_factory=dict[int, tuple[int, float]])
    seconds: float = 0.0
    steps: int = 0
    ended: int = 0
    best: Trial | None = None

    def heard(self, number: int, step: int, value: float) -> None:
        """Take note of how far a trial is."""
        self.running.pop(number, None)
        self.running[number] = step, value

    def now(self, trials: Sequence[Trial]) -> None:
        """Take note of the trials as they are."""
        self.trials = trials
        self.ended = sum(each.state in ("done", "pruned", "failed") for each in trials)
        self.best = next(iter(foremost(trials, self.plan.direction, 1)), None)


Watch = Callable[[Standing], None]
