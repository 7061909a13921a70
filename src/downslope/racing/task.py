"""One problem of a race: who races on it, by what it is judged, what is to be reached."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from downslope.core.problem import Problem
from downslope.racing.contestants import Contestant
from downslope.racing.measure import Measure, measure_of
from downslope.racing.times import Target


@dataclass(eq=False)
class Task:
    """One problem of the race.

    Attributes:
        name: Unique.
        problem: Without its goal, which would end runs.
        contestants: With their recipes for it.
        measure: Of levels.
        target: What is to be reached; NaN until it is known.
    """

    name: str
    problem: Problem
    contestants: Sequence[Contestant]
    measure: Measure
    target: Target


def task_of(name: str, problem: Problem, contestants: Sequence[Contestant], target: float | None) -> Task:
    """A problem as it is raced on: without a goal, which becomes the target.

    Args:
        name: Unique.
        problem: As given.
        contestants: With their recipes for it.
        target: A level, where one is given.
    """
    measure = measure_of(problem)
    if target is not None:
        found = Target(float(target), "given", "given")
    elif problem.goal is not None and measure.column == "valid_metric":
        found = Target(float(problem.goal), "goal", "the problem's goal")
    else:
        found = Target(float("nan"), "none", "no target yet")
    return Task(name, problem.edit(goal=None), contestants, measure, found)
