"""What a race keeps of one run: where it ended, how it got there, and what it cost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from downslope.core.plain import plain
from downslope.core.run import Run
from downslope.racing.measure import Measure

Phase = Literal["tune", "race"]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One run of one contestant on one problem.

    Attributes:
        problem: Its name.
        contestant: Its name.
        phase: Of the tuning, or of the race itself.
        number: Of the trial, or of the seed's place, from 0.
        lap: The seed's place that a trial was tuned for, where each seed is; else 0.
        seed: Of the run.
        status: As `Run.status`.
        level: Where it ended, NaN where it diverged or failed.
        steps: Of its evaluations.
        levels: At them.
        taken: Steps that it took.
        seconds: On the clock, since the run before it had ended: members that train together end together,
            and the first of them has the time of all.
        error: Why it failed.
        values: What the trial changed.
    """

    problem: str
    contestant: str
    phase: Phase
    number: int
    seed: int
    status: str
    level: float
    lap: int = 0
    steps: tuple[int, ...] = ()
    levels: tuple[float, ...] = ()
    taken: int = 0
    seconds: float = 0.0
    error: str = ""
    values: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def key(self) -> tuple[str, str, str, int, int]:
        """What no other run of the race has."""
        return self.problem, self.contestant, self.phase, self.lap, self.number

    @property
    def lost(self) -> bool:
        """Whether it left the finite numbers or failed."""
        return not math.isfinite(self.level)

    def to_dict(self) -> dict[str, Any]:
        """Plain values; a level that is none becomes None."""
        return plain(asdict(self))

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> Outcome:
        """What `to_dict` gave."""
        levels = tuple(math.nan if each is None else float(each) for each in table["levels"])
        level = math.nan if table["level"] is None else float(table["level"])
        made: dict[str, Any] = {**table, "steps": tuple(table["steps"]), "levels": levels, "level": level}
        return cls(**made)


def outcome_of(
    run: Run,
    measure: Measure,
    *,
    problem: str,
    contestant: str,
    phase: Phase,
    number: int,
    lap: int = 0,
    values: Mapping[str, Any] | None = None,
    seconds: float = 0.0,
) -> Outcome:
    """The outcome of a finished run.

    Args:
        run: Trained; of status "failed" where it could not be.
        measure: Of its level.
        problem: Name.
        contestant: Name.
        phase: Of the tuning, or of the race.
        number: Of the trial or seed.
        lap: As in `Outcome`.
        values: What the trial changed.
        seconds: Since the run before it had ended.
    """
    steps, levels = measure.curve(run)
    return Outcome(
        problem=problem, contestant=contestant, phase=phase, number=number, lap=lap,
        seed=0 if run.recipe is None else run.recipe.seed, status=run.status, level=measure.of(run),
        steps=steps, levels=levels, taken=int(run.summary.get("steps") or 0), seconds=seconds,
        error=str(run.facts.get("error", "")), values=plain(dict(values or {})),
    )  # fmt: skip
