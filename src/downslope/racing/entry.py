"""One contestant on one problem: how it was tuned, where it ended, how long it took."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from downslope.core.plain import plain
from downslope.core.recipe import Recipe
from downslope.racing.levels import Level, level_of
from downslope.racing.measure import Measure
from downslope.racing.outcome import Outcome
from downslope.racing.times import Target, first_reached, median_time


@dataclass(eq=False, kw_only=True)
class Entry:
    """What is known of one contestant on one problem.

    Attributes:
        problem: Its name.
        contestant: Its name.
        measure: Of levels.
        target: What is to be reached.
        recipe: As it raced; its seed aside.
        given: As it was given, which its first trial is.
        values: What its tuning chose; empty where it raced as given.
        raced: Its runs on fresh seeds, in the order of the seeds.
        tuning: Its trials.
        step_seconds: Of one step, alone, the same of those that cannot be told apart; NaN where it was not
            measured.
        rounds: The same in each round of the measurement.
        error: Why it could not be trained; "" where it could.
        described: The recipe in words, of one that was read from a folder and holds code: `recipe` is none.
    """

    problem: str
    contestant: str
    measure: Measure
    target: Target
    recipe: Recipe
    given: Recipe | None = None
    values: Mapping[str, Any] = field(default_factory=dict[str, Any])
    raced: Sequence[Outcome] = ()
    tuning: Sequence[Outcome] = ()
    step_seconds: float = math.nan
    rounds: Sequence[float] = ()
    error: str = ""
    described: str = ""

    @property
    def code(self) -> str:
        """The recipe in words where it holds code; else ""."""
        return self.described or (self.recipe.describe() if self.recipe.coded else "")

    @property
    def levels(self) -> list[float]:
        """Final levels by seed, NaN where one was lost."""
        return [one.level for one in self.raced]

    @property
    def costs(self) -> list[float]:
        """The same as costs: lower is better, infinite where one was lost."""
        return [self.measure.cost(one.level) for one in self.raced]

    @property
    def level(self) -> Level:
        """Mean, interval, median."""
        return level_of(self.levels, up=self.measure.up, within=self.measure.bounds)

    @property
    def repeated(self) -> bool:
        """Whether every seed took the very same course: then there is one run, however often it was made."""
        courses = {(one.status, one.level, one.levels) for one in self.raced if not one.lost}
        return len(self.raced) > 1 and len(courses) == 1 and not self.lost

    @property
    def anew(self) -> bool:
        """Whether it was tuned anew for every seed, so that `recipe` and `values` are those of the first."""
        return len({one.lap for one in self.tuning}) > 1

    @property
    def lost(self) -> int:
        """Seeds on which it diverged or failed."""
        return sum(one.lost for one in self.raced)

    @property
    def steps_to_target(self) -> list[float]:
        """By seed; infinite where the target was not reached, NaN where there is none."""
        if math.isnan(self.target.level):
            return [math.nan for _ in self.raced]
        return [first_reached(one, self.measure, self.target.level) for one in self.raced]

    @property
    def seconds_to_target(self) -> list[float]:
        """By seed: steps times the seconds of a step."""
        return [math.inf if math.isinf(each) else each * self.step_seconds for each in self.steps_to_target]

    @property
    def arrived(self) -> int:
        """Seeds that got to the target."""
        return sum(map(math.isfinite, self.steps_to_target))

    @property
    def median_steps(self) -> float:
        """Median steps to target; infinite where half of the seeds did not arrive."""
        return median_time(self.steps_to_target)

    @property
    def median_seconds(self) -> float:
        """Median seconds to target."""
        return median_time(self.seconds_to_target)

    @property
    def tuning_cost(self) -> dict[str, float]:
        """Runs, steps and seconds (steps times the seconds of a step) that its tuning took."""
        steps = sum(one.taken for one in self.tuning)
        return {"runs": len(self.tuning), "steps": steps, "seconds": steps * self.step_seconds}

    def by(self, what: str) -> list[float]:
        """Costs by seed of what decides: "level", "steps" or "seconds"."""
        if what == "level":
            return self.costs
        return self.steps_to_target if what == "steps" else self.seconds_to_target

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "problem": self.problem, "contestant": self.contestant, "measure": self.measure.column,
            "name": self.measure.name, "up": self.measure.up, "target": self.target._asdict(),
            "recipe": self.code or self.recipe.to_dict(),
            "values": plain(self.values), "levels": self.levels, "level": self.level._asdict(),
            "lost": self.lost, "seeds": [one.seed for one in self.raced],
            "steps_to_target": self.steps_to_target, "arrived": self.arrived,
            "seconds_to_target": self.seconds_to_target, "step_seconds": self.step_seconds,
            "rounds": list(self.rounds),
            "tuning": self.tuning_cost, "error": self.error,
            "curves": [{"steps": one.steps, "levels": one.levels} for one in self.raced],
        }  # fmt: skip
