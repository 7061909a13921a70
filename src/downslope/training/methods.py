"""Methods that look at a batch more than once: known without loading them, and what they refuse."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypeGuard

import torch

from downslope.core.errors import RecipeError
from downslope.core.problem import Problem
from downslope.core.recipe import Recipe

if TYPE_CHECKING:
    from downslope.terrain.methods.method import Method

_HOME = "downslope.terrain.methods.method"


def is_method(optimizer: Any) -> TypeGuard[Method]:
    """Whether `optimizer` is a `Method`: of a class whose module nothing has loaded there are none."""
    loaded: Any = sys.modules.get(_HOME)
    return loaded is not None and isinstance(optimizer, loaded.Method)


def check_method(recipe: Recipe, problem: Problem, optimizer: torch.optim.Optimizer) -> None:
    """Refuse what a method that looks for its step by itself cannot be given.

    Args:
        recipe: How.
        problem: What.
        optimizer: Of the recipe; others than a `Method` pass.

    Raises:
        RecipeError: one line.
    """
    if not is_method(optimizer):
        return
    name = str(recipe.optimizer).replace("_", "-")
    for key in ("clip_norm", "clip_value"):
        if (value := getattr(recipe, key)) is not None:
            raise RecipeError(
                f"{key}={value:g} with {name}: it bounds its step by itself (a line search, a trust region), "
                "and a clipped gradient is not that of the loss it compares; leave it out"
            )
    if recipe.precision == "bfloat16":
        raise RecipeError(
            f"precision='bfloat16' with {name}: it compares losses closer than 8 bits tell apart; take "
            "'float32' or 'float64'"
        )
    if recipe.unfreeze is not None:
        raise RecipeError(
            f"unfreeze={recipe.unfreeze} with {name}: what it remembers is of all parameters at once; train "
            "all from the start, or take 'adam'"
        )
    if problem.constraint is not None:
        raise RecipeError(
            f"constraint with {name}: a step scaled by curvature may climb once it is projected (Bertsekas "
            "1982); take 'gd', or a parametrisation in the model"
        )
    if hasattr(problem.objective, "combine"):
        raise RecipeError(
            f"{name}: the objective combines the gradients of its terms, so that there is no one function to "
            "go down on; take 'adam', or weigh the terms"
        )
    own_lr = optimizer.defaults.get("lr")
    for key in ("lr", "schedule", "warmup"):
        if own_lr is None and key in recipe.said and getattr(recipe, key):
            raise RecipeError(f"{key}={getattr(recipe, key)!r}: {name} has no learning rate; leave it out")
    if recipe.schedules:
        given = ", ".join(recipe.schedules)
        raise RecipeError(f"schedules of {given}: {name} keeps its settings through the run; leave them out")
