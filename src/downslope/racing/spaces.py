"""In which space each trial of a contestant is drawn, and where its best lie at the end of that space."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from downslope.core.space import Dimension
from downslope.racing.contestants import Contestant
from downslope.racing.outcome import Outcome
from downslope.racing.task import Task
from downslope.tuning.edges import Edge, edges, widened
from downslope.tuning.trial import Trial

DRAWS = 8
"""Draws after which a space may be widened, and again after as many more."""

Space = dict[str, Dimension]


def stages(trials: int, widen: bool) -> list[range]:
    """The numbers of the trials that are drawn before anybody looks at what came of them, stage by stage."""
    if not trials:
        return []
    ends = [*range(1 + DRAWS, trials, DRAWS), trials] if widen else [trials]
    return [range(a, b) for a, b in zip([0, *ends], ends, strict=False)]


class Spaces:
    """Spaces by problem, contestant and lap: they follow from the outcomes, so that nothing is kept.

    Args:
        given: As in `race`.
        widen: Whether ranges are widened at whose end the best lie.
        tuning: Problem and contestant to the trials so far.
    """

    def __init__(
        self,
        given: Mapping[str, Any] | None,
        widen: bool,
        tuning: Callable[[Task, str], Sequence[Outcome]],
    ) -> None:
        self._given, self._widen, self._tuning = given, widen, tuning
        self._held: dict[tuple[str, str, int, int], Space] = {}

    def at(self, task: Task, each: Contestant, lap: int, number: int) -> Space:
        """The space in which trial `number` is drawn."""
        stage = (number - 1) // DRAWS if self._widen and number > DRAWS else 0
        key = (task.name, each.name, lap, stage)
        if key not in self._held:
            if not stage:
                self._held[key] = each.space(task.problem, self._given)
            else:
                end = 1 + stage * DRAWS
                former = self.at(task, each, lap, end - 1)
                self._held[key] = widened(former, self._edges(task, each, lap, former, end))
        return self._held[key]

    def edges(self, task: Task, each: Contestant, trials: int) -> list[Edge]:
        """Where the best lie at an end of the last space."""
        space = self.at(task, each, 0, max(0, trials - 1))
        return self._edges(task, each, 0, space, trials)

    def widenings(self, task: Task, each: Contestant, trials: int) -> list[str]:
        """What was widened on the way, in words."""
        made: list[str] = []
        for end in [numbers[0] for numbers in stages(trials, self._widen)[1:]]:
            former, now = self.at(task, each, 0, end - 1), self.at(task, each, 0, end)
            made += [
                f"{key} widened after {end} trials, from {former[key]} to {now[key]}"
                for key in now
                if now[key] != former[key]
            ]
        return made

    def _edges(self, task: Task, each: Contestant, lap: int, space: Space, end: int) -> list[Edge]:
        known = [one for one in self._tuning(task, each.name) if one.lap == lap and 0 < one.number < end]
        trials = [Trial(one.number, one.values, "failed" if one.lost else "done", one.level) for one in known]
        way = "max" if task.measure.up else "min"
        return [*edges(trials, space, way, task.problem, each.recipe)]
