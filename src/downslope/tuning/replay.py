"""A schedule that population-based training found, as runs of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.core.run import Run
from downslope.tuning.crowd import Crowd
from downslope.tuning.schedule import Schedule


def replay(
    problem: Problem,
    recipe: Recipe,
    schedule: Schedule,
    *,
    seeds: Sequence[int] = (0,),
    folder: Path | None = None,
    until: float | None = None,
) -> list[Run]:
    """Train along `schedule`, without any search: a run for each seed.

    From the seed of the search it is the winner again, up to the rounding of sums; from fresh ones it tells
    what the schedule is worth.

    Args:
        problem: What is learnt.
        recipe: That of the search, whose hyper-parameters the schedule replaces.
        schedule: Its stairs in epochs.
        seeds: Of the runs.
        folder: Where they are kept; None keeps them in memory.
        until: `time.monotonic` by which it ends.

    Raises:
        InputError: hyper-parameters that cannot change while a member trains.
        Stopped: somebody interrupted, or the time is up.
    """
    crowd = _One(problem, recipe, schedule.at(0), seeds=seeds, folder=folder, until=until)
    schedule.replay(crowd)
    crowd.end()
    return crowd.runs(0)


class _One(Crowd):
    """A crowd of one, with the values that it begins with."""

    def __init__(self, problem: Problem, recipe: Recipe, values: Mapping[str, Any], **more: Any) -> None:
        super().__init__(problem, recipe, **more)
        self.first = values

    def ask(self, n: int) -> list[int]:
        """The one."""
        return self.begin([self.first] * min(n, 1))
