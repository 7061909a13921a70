"""The edit of a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from downslope.core.edits.edit import Edit, Entity
from downslope.core.errors import EditError
from downslope.core.problem import Problem
from downslope.core.recipe import Recipe


@dataclass(frozen=True)
class SetRecipe(Edit):
    """Change keys of the recipe: ``SetRecipe({"lr": 0.01})``."""

    kind: ClassVar[str] = "set-recipe"
    entity: ClassVar[Entity] = "optimisation"
    changes: Mapping[str, Any]
    before: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What the keys were, for the diff; filled in where known."""

    def apply(self, problem: Problem, recipe: Recipe) -> tuple[Problem, Recipe]:
        """The recipe with the keys changed."""
        return problem, recipe.edit(**self.changes)

    def apply_to_problem(self, problem: Problem) -> Problem:
        """Refused: a recipe's edit."""
        raise EditError(f"{self}: an edit of the recipe; use recipe.edit(...) or edit.apply(problem, recipe)")

    def __str__(self) -> str:
        def word(key: str, value: Any) -> str:
            new = f"{value:g}" if isinstance(value, float) else str(value)
            if key not in self.before:
                return f"{key} = {new}"
            old = self.before[key]
            return f"{key} {f'{old:g}' if isinstance(old, float) else old} -> {new}"

        return ", ".join(word(key, value) for key, value in self.changes.items())
