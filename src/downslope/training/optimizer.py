"""The optimizer of a recipe, built on the parameters of a model: groups, decay mask, schedule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from downslope.core import names
from downslope.core.errors import ModelError, RecipeError
from downslope.core.recipe import Recipe, optimizer_defaults


def build_optimizer(recipe: Recipe, model: nn.Module) -> torch.optim.Optimizer:
    """The recipe's optimizer on the parameters of `model` that take a gradient.

    With ``decay="weights"`` biases and the parameters of normalisation layers (those with fewer than two
    dimensions) form a group without decay.

    Raises:
        ModelError: nothing to train.
        RecipeError: the optimizer refuses its settings, or a factory returns no optimizer.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    if not any(True for _ in model.parameters()):
        raise ModelError(f"the model ({type(model).__name__}) has no parameters: there is nothing to train")
    if not trained:
        raise ModelError("every parameter of the model is frozen (requires_grad=False): nothing to train")
    target: Any = recipe.optimizer
    if isinstance(target, str):
        target = names.resolve("optimizer", target)
    try:
        if isinstance(target, type):
            made: Any = target(_groups(recipe, trained), **_settings(recipe))
        else:
            made = target(trained)
    except RecipeError:
        raise
    except (ValueError, TypeError, RuntimeError) as error:
        raise RecipeError(f"optimizer {recipe.optimizer}: {str(error).splitlines()[0]}") from error
    if not isinstance(made, torch.optim.Optimizer):
        raise RecipeError(
            f"the optimizer factory returned {type(made).__name__}: it must return an Optimizer"
        )
    if not isinstance(target, type):
        _scale_groups(made, recipe.lr)
    return made


def _settings(recipe: Recipe) -> dict[str, Any]:
    taken = optimizer_defaults(recipe.optimizer)
    settings = dict(recipe.settings)
    if recipe.lr is not None and "lr" in taken:
        settings["lr"] = recipe.lr
    if "weight_decay" in taken:
        settings["weight_decay"] = recipe.weight_decay
    elif recipe.weight_decay:
        raise RecipeError(f"weight_decay={recipe.weight_decay:g}: {recipe.optimizer} has no weight decay")
    return settings


def _groups(recipe: Recipe, trained: list[nn.Parameter]) -> Any:
    if not recipe.weight_decay or recipe.decay == "all":
        return trained
    weights: list[Tensor] = [p for p in trained if p.dim() > 1]
    others: list[Tensor] = [p for p in trained if p.dim() <= 1]
    groups = [{"params": weights}, {"params": others, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def _scale_groups(optimizer: torch.optim.Optimizer, lr: float | None) -> None:
    """An edited learning rate scales all groups of an optimizer that a factory made."""
    own = optimizer.param_groups[0].get("lr")
    if lr is None or not own or lr == own:
        return
    for group in optimizer.param_groups:
        group["lr"] = group["lr"] * (lr / own)


def schedule_of(recipe: Recipe, total_steps: int | None) -> Callable[[int], float] | None:
    """``step -> factor`` of the learning rate, step counted from 0; None where it is constant.

    The schedule spans the steps that the warm-up leaves.

    Raises:
        RecipeError: the schedule needs the length of the run, and nothing tells it.
    """
    if recipe.schedule is None and not recipe.warmup:
        return None
    if total_steps is None and recipe.schedule not in (None, "constant"):
        raise RecipeError(
            f"schedule={recipe.schedule!r}: the data does not tell how long an epoch is; give steps= instead "
            "of epochs"
        )
    left = max((total_steps or 1) - recipe.warmup, 1)
    factor: Callable[[int], float] = names.resolve("schedule", recipe.schedule or "constant")(left)
    return names.load("downslope.schedules:warmup")(factor, recipe.warmup) if recipe.warmup else factor
