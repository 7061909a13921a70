"""What a verb is asked to work on, refused in one line where it is no problem or no recipe."""

from __future__ import annotations

from typing import Any

from downslope.core.errors import InputError, RecipeError
from downslope.core.problem import Problem
from downslope.core.recipe import Recipe


def check_asked(problem: Any, recipe: Any, *, or_a: str = "") -> None:
    """Refuse what is no `Problem`, and what is no `Recipe` and not left out.

    Args:
        problem: What was given first.
        recipe: What was given second; None stands for the default.
        or_a: What else the verb takes in the place of a problem, for the message.

    Raises:
        InputError: the first is no problem.
        RecipeError: the second is no recipe.
    """
    if not isinstance(problem, Problem):
        raise InputError(
            f"problem={_shown(problem)}: must be a ds.Problem(model=..., objective=..., train=...){or_a}"
        )
    if recipe is not None and not isinstance(recipe, Recipe):
        raise RecipeError(f"recipe={_shown(recipe)}: must be a ds.Recipe, such as ds.Recipe(lr=0.01)")


def _shown(given: Any) -> str:
    text = " ".join(repr(given).split())
    return text if len(text) <= 60 else f"{text[:57]}..."
