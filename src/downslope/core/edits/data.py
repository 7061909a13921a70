"""The edit of how data is served: its order. What the examples and their labels are is never changed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from downslope.core import batches
from downslope.core.edits.edit import Edit, Entity
from downslope.core.errors import EditError
from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.core.sources import Loader, Memory


@dataclass(frozen=True)
class Shuffle(Edit):
    """Draw the batches of a DataLoader in a new random order every epoch, its batch size kept.

    The examples of one pass are held in memory.
    """

    kind: ClassVar[str] = "shuffle"
    entity: ClassVar[Entity] = "optimisation"

    def apply(self, problem: Problem, recipe: Recipe) -> tuple[Problem, Recipe]:
        """The problem whose training data is reshuffled, and the recipe with the loader's batch size."""
        source = problem.train_source
        changed = self.apply_to_problem(problem)
        if isinstance(source, Loader) and source.batch_size is not None:
            kept = {} if recipe.lr is None else {"lr": recipe.lr}  # the loader's batches had it already
            recipe = recipe.edit(batch_size=source.batch_size, **kept)
        return changed, recipe

    def apply_to_problem(self, problem: Problem) -> Problem:
        """The problem whose training data is reshuffled every epoch.

        Raises:
            EditError: data without an end.
        """
        source = problem.train_source
        if isinstance(source, Loader):
            if source.steps(1) is None:
                raise EditError("a stream without an end cannot be shuffled: shuffle where it is made")
            problem = replace(problem, train=Memory(batches.join(list(source.stored(1)))))
        return super().apply_to_problem(problem)

    def __str__(self) -> str:
        return "shuffle the training data every epoch"
