"""Settings of an optimizer that change from step to step beside its rate: see `Recipe.schedules`."""

from __future__ import annotations

import torch

from downslope.core import scheduled
from downslope.core.errors import RecipeError
from downslope.core.recipe import Recipe

__all__ = ["Settings"]


class Settings:
    """The scheduled settings of an optimizer's groups: each group's own, times the factor of the step.

    Args:
        recipe: Its schedules.
        optimizer: Groups without a setting are left alone.
        total_steps: Of the run; None where the data does not tell.

    Raises:
        RecipeError: nothing tells the length of the run.
    """

    def __init__(self, recipe: Recipe, optimizer: torch.optim.Optimizer, total_steps: int | None) -> None:
        given = recipe.schedules or {}
        if given and total_steps is None:
            raise RecipeError(
                f"schedules of {', '.join(given)}: the data does not tell how long an epoch is; give steps= "
                "instead of epochs"
            )
        self._factors = scheduled.made(given, max(total_steps or 1, 1))
        groups = optimizer.param_groups
        self._starts = [{key: group[key] for key in given if group.get(key) is not None} for group in groups]

    def at(self, optimizer: torch.optim.Optimizer, step: int) -> None:
        """Set them for a step, counted from 0."""
        for group, starts in zip(optimizer.param_groups, self._starts, strict=True):
            for key, start in starts.items():
                factor = self._factors[key]
                if callable(factor):
                    group[key] = start * factor(step)
                else:
                    group[key] = tuple(x * each(step) for x, each in zip(start, factor, strict=True))
