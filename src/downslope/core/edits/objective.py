"""Another objective in the place of the one given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from downslope.core.edits.edit import Edit, Entity, label
from downslope.core.problem import Problem


@dataclass(frozen=True)
class SetObjective(Edit):
    """Swap the objective for another: a name, or ``(output, target) -> scalar``."""

    kind: ClassVar[str] = "set-objective"
    entity: ClassVar[Entity] = "objective"
    objective: Any

    def apply_to_problem(self, problem: Problem) -> Problem:
        """The problem with the objective swapped."""
        return problem.edit(objective=self.objective)

    def __str__(self) -> str:
        return f"objective -> {label(self.objective)}"
