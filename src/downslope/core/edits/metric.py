"""Another metric: what a run is scored by, and by which its best epoch is chosen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from downslope.core.edits.edit import Edit, Entity, label
from downslope.core.problem import Problem


@dataclass(frozen=True)
class SetMetric(Edit):
    """Swap the metric for another: a name, or ``(output, target) -> float``.

    A goal is a level of the metric that it was given for, and goes with it.
    """

    kind: ClassVar[str] = "set-metric"
    entity: ClassVar[Entity] = "objective"
    metric: Any

    def apply_to_problem(self, problem: Problem) -> Problem:
        """The problem with the metric swapped, without a goal."""
        return problem.edit(metric=self.metric, metric_goal=None, goal=None)

    def __str__(self) -> str:
        return f"metric -> {label(self.metric)}"
