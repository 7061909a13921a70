"""The weights that an optimizer shows, where it trains others, as the model that is judged and handed out.

Schedule-Free, Lookahead and averages that are links of an optimizer: see decision 0035.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from downslope.core.batches import Split
from downslope.core.errors import RecipeError
from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.training.average import Average, has_norms, measure_norms
from downslope.training.state import StepState

__all__ = ["Shown", "beside", "check_shown", "looks_again", "shows"]


def shows(optimizer: Any) -> bool:
    """Whether an optimizer has other weights to evaluate than those that it trains."""
    return bool(getattr(optimizer, "shows", False))


def looks_again(optimizer: Any) -> bool:
    """Whether a step of an optimizer evaluates the loss by itself, through a closure."""
    return bool(getattr(optimizer, "needs_closure", isinstance(optimizer, torch.optim.LBFGS)))


def check_shown(recipe: Recipe, problem: Problem, optimizer: torch.optim.Optimizer) -> None:
    """Refuse what goes with no optimizer that shows other weights than it trains.

    Args:
        recipe: How.
        problem: What.
        optimizer: Of the recipe; those that show what they train pass.

    Raises:
        RecipeError: one line.
    """
    if not shows(optimizer):
        return
    if recipe.average is not None:
        raise RecipeError(
            f"average={recipe.average!r} with {_named(recipe, optimizer)}, which has weights of its own to "
            "hand out: leave one of them out"
        )
    if problem.constraint is not None and "schedule_free" in str(recipe.optimizer):
        raise RecipeError(
            f"constraint with {recipe.optimizer}: what it steps from (z) is not what is brought back into "
            "the set (y), and its average is told from both; take another optimizer"
        )


def _named(recipe: Recipe, optimizer: Any) -> str:
    return recipe.optimizer if isinstance(recipe.optimizer, str) else type(optimizer).__name__


class Shown:
    """A model beside the one in training, with the weights that the optimizer shows.

    Memory: one more copy of the model.

    Args:
        state: Of the run; its choices say so.

    Attributes:
        settle: Called before the optimizer's state is read, which is then to be that of the present step.
    """

    def __init__(self, state: StepState) -> None:
        self._state = state
        self.settle: Callable[[], None] = lambda: None
        self.kept = copy.deepcopy(state.model)
        self._step, self._stale = -1, False
        again = "; batch norm measured anew by a pass over the training data before each evaluation"
        said = (
            f"weights that {_named(state.recipe, state.optimizer)} shows, which are not those that it trains"
        )
        state.run.choices["shown"] = said + (again if has_norms(self.kept) else "")

    @property
    def begun(self) -> bool:
        """Always: before the first step what is shown is what is trained."""
        return True

    @property
    def saved(self) -> dict[str, nn.Module]:
        """Nothing: what is shown comes from the weights that are trained and the optimizer's state."""
        return {}

    def follow(self, model: nn.Module, step: int) -> None:
        """Nothing is to be taken up: the optimizer has."""

    def tell(self, step: int) -> None:
        """Nothing is to be told of the end."""

    @property
    def handed(self) -> nn.Module:
        """The model with the weights to evaluate after the present step, inside its constraint."""
        if self._step != self._state.step:
            self.settle()
            self._take()
            self._step, self._stale = self._state.step, self._state.step > 0
        return self.kept

    @torch.no_grad()
    def _take(self) -> None:
        state: Any = self._state
        with state.optimizer.shown():
            for kept, p in zip(self.kept.parameters(), state.model.parameters(), strict=True):
                kept.copy_(p)
        for kept, buffer in zip(self.kept.buffers(), state.model.buffers(), strict=True):
            kept.copy_(buffer)
        if state.problem.constraint is not None:
            state.problem.constraint(self.kept)

    def forget(self) -> None:
        """Read the weights anew when they are asked for: the step is the same, and they are others."""
        self._step = -1

    def refresh(self, trained: nn.Module, data: Callable[[], Iterable[Any]], split: Split) -> None:
        """Measure batch norm's statistics for the weights that are shown, unless they are those already.

        Args:
            trained: The model in training; norms that it holds in eval mode keep their statistics.
            data: One pass over the training data, batches as in training.
            split: Of a batch.
        """
        handed = self.handed
        if self._stale and self._state.run.status != "diverged":
            measure_norms(handed, trained, data, split)
        self._stale = False


def beside(state: StepState, total: int | None, per_epoch: int | None) -> Average | Shown | None:
    """The model beside the one in training that is judged and handed out, if there is one; choices say so.

    Args:
        state: Of the run, before its first step.
        total: Steps of the run; None where the data do not tell.
        per_epoch: Steps of an epoch; None where the data do not tell.

    Raises:
        RecipeError: the average begins at a share of a run whose length nothing tells.
    """
    if shows(state.optimizer):
        return Shown(state)
    if state.recipe.average is None:
        return None
    average = Average(state.model, state.recipe, total, per_epoch, state.problem.constraint)
    state.run.choices["average"] = str(average)
    return average
