"""The optimizer of a recipe, built on the parameters of a model: groups, decay mask, schedule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from downslope.core import names
from downslope.core.adapted import named_parameters, unwrap
from downslope.core.depth import Unit, units
from downslope.core.errors import DownslopeError, ModelError, RecipeError
from downslope.core.groups import RATES, Group, assigned
from downslope.core.method import is_named
from downslope.core.problem import Problem
from downslope.core.recipe import Recipe, optimizer_defaults
from downslope.optim.grouping import factory_arguments
from downslope.optim.roles import check_roles, roles
from downslope.training.depth import factors


def settled(problem: Problem, recipe: Recipe) -> Recipe:
    """`recipe` with the groups that its factory makes of the problem's model as data.

    Raises:
        InputError: the model or the optimizer cannot be made.
    """
    return recipe if is_named(recipe.optimizer) else recipe.settled(problem.build(recipe.seed, recipe.init))


def build_optimizer(recipe: Recipe, model: nn.Module, depths: Sequence[Unit] = ()) -> torch.optim.Optimizer:
    """The recipe's optimizer on the parameters of `model` that take a gradient.

    Groups of the recipe come first, in their order, then what belongs to none; those with ``train = false``
    are frozen. Without groups, ``decay="weights"`` makes biases and the parameters of normalisation layers
    (those with fewer than two dimensions) a group without decay, whether the optimizer is a name or a class.
    With `layer_decay` every group is cut into those of each depth.

    Args:
        recipe: How.
        model: Its parameters are trained.
        depths: Units of the model in the order of its forward pass; read off its structure if left out.

    Raises:
        ModelError: nothing to train.
        RecipeError: the optimizer refuses its settings, a factory returns no optimizer or one of other
            parameters, or groups name parameters that the model has not.
    """
    if not any(True for _ in model.parameters()):
        raise ModelError(f"the model ({type(model).__name__}) has no parameters: there is nothing to train")
    if not any(p.requires_grad for p in model.parameters()):
        raise ModelError("every parameter of the model is frozen (requires_grad=False): nothing to train")
    recipe = recipe.settled(model)
    target: Any = recipe.optimizer
    if isinstance(target, str):
        target = names.resolve("optimizer", target)
    if recipe.layer_decay is not None and not isinstance(target, type):
        raise RecipeError(
            f"layer_decay={recipe.layer_decay:g} with an optimizer that is code, which makes its groups "
            "itself: give a name or a class"
        )
    try:
        if isinstance(target, type):
            made: Any = target(*_given(recipe, model, depths), **_settings(recipe, model))
        else:
            made = target(factory_arguments(target, model))
    except DownslopeError:
        raise
    except (ValueError, TypeError, RuntimeError, AttributeError) as error:
        raise RecipeError(f"optimizer {recipe.optimizer}: {_told(error, recipe, target)}") from error
    if not isinstance(made, torch.optim.Optimizer):
        raise RecipeError(
            f"the optimizer factory returned {type(made).__name__}: it must return an Optimizer"
        )
    held = {id(p) for group in made.param_groups for p in group["params"]}
    if not any(id(p) in held for p in model.parameters()):
        raise RecipeError(
            "the optimizer that the factory made holds none of the model's parameters, which it is given as "
            f"its argument: write optimizer=lambda params: {type(made).__name__}(params, ...)"
        )
    if not isinstance(target, type):
        for key in RATES:
            _scale_groups(made, key, getattr(recipe, key) if key in recipe.said else None)
    elif _masked(recipe):
        _check_by_group(made, recipe)
    return made


def _check_by_group(made: torch.optim.Optimizer, recipe: Recipe) -> None:
    """Refuse a mask that an optimizer does not heed."""
    if any("weight_decay" not in group for group in made.param_groups):
        raise RecipeError(
            f"optimizer {recipe.optimizer} has one weight_decay for all parameters, none in its groups: "
            "biases and norms cannot be left out of it; give decay='all'"
        )


def _masked(recipe: Recipe) -> bool:
    """Whether biases and norms are a group of their own, so that they do not decay."""
    return not recipe.groups and bool(recipe.weight_decay) and recipe.decay == "weights"


def _told(error: Exception, recipe: Recipe, target: Any) -> str:
    """What an optimizer says of what it was given, and how it is given no groups where these may be why."""
    said = (str(error).splitlines() or [type(error).__name__])[0]
    why = isinstance(target, type) and _masked(recipe) and any(each in said for each in ("group", "dict"))
    return said + "; decay='all' gives it the parameters without groups" * why


def _settings(recipe: Recipe, model: nn.Module) -> dict[str, Any]:
    taken = optimizer_defaults(recipe.optimizer)
    settings = dict(recipe.settings)
    if "roles" in taken:
        settings["roles"] = roles(unwrap(model), check_roles(settings.get("roles")))
    if recipe.lr is not None and "lr" in taken:
        settings["lr"] = recipe.lr
    if "weight_decay" in taken:
        settings["weight_decay"] = recipe.weight_decay
    elif recipe.weight_decay:
        raise RecipeError(f"weight_decay={recipe.weight_decay:g}: {recipe.optimizer} has no weight decay")
    return settings


def _given(recipe: Recipe, model: nn.Module, depths: Sequence[Unit]) -> tuple[Any]:
    """The groups; of pairs of name and parameter for an optimizer that tells parameters apart by them."""
    groups = _by_depth(recipe, model, depths)
    if "roles" not in optimizer_defaults(recipe.optimizer):
        return (groups,)
    own = {id(p): its_names[0] for its_names, p in named_parameters(model)}
    rows: list[dict[str, Any]] = groups if isinstance(groups[0], dict) else [{"params": groups}]
    return ([{**row, "params": [(own[id(p)], p) for p in row["params"]]} for row in rows],)


def _groups(recipe: Recipe, model: nn.Module) -> Any:
    if recipe.groups:
        return _own_groups(recipe.groups, model)
    trained = [p for p in model.parameters() if p.requires_grad]
    if not _masked(recipe):
        return trained
    weights: list[Tensor] = [p for p in trained if p.dim() > 1]
    others: list[Tensor] = [p for p in trained if p.dim() <= 1]
    groups = [{"params": weights}, {"params": others, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def _by_depth(recipe: Recipe, model: nn.Module, depths: Sequence[Unit]) -> Any:
    """The recipe's groups; with `layer_decay` cut by depth, each with its share of the rate."""
    groups = _groups(recipe, model)
    if recipe.layer_decay is None:
        return groups
    found = depths or units(model)
    if recipe.lr is None:
        raise RecipeError(f"layer_decay={recipe.layer_decay:g}: {recipe.optimizer} has no learning rate")
    place = {id(p): factor for unit, factor in zip(found, factors(recipe, found), strict=True)
             for p in unit.parameters}  # fmt: skip
    rows: list[dict[str, Any]] = groups if isinstance(groups[0], dict) else [{"params": groups}]
    made: list[dict[str, Any]] = []
    for row in rows:
        for factor in sorted({place[id(p)] for p in row["params"]}):
            held = [p for p in row["params"] if place[id(p)] == factor]
            made.append({**row, "params": held, "lr": row.get("lr", recipe.lr) * factor})
    return made


def _own_groups(groups: tuple[Group, ...], model: nn.Module) -> list[dict[str, Any]]:
    named = named_parameters(model)
    rest: list[Tensor] = []
    made: list[dict[str, Any]] = [{"params": list[Tensor](), **group.settings} for group in groups]
    for (_, p), place in zip(named, assigned(groups, named), strict=True):
        if place is not None and not groups[place].train:
            p.requires_grad_(False)
        elif p.requires_grad:
            (rest if place is None else made[place]["params"]).append(p)
    made.append({"params": rest})
    found = [group for group in made if group["params"]]
    if not found:
        raise ModelError("the recipe's groups train no parameter of the model; edit groups")
    return found


def _scale_groups(optimizer: torch.optim.Optimizer, key: str, new: float | None) -> None:
    """An edited rate scales all groups of an optimizer that stays code; the largest stands for all."""
    own = max((float(group.get(key) or 0.0) for group in optimizer.param_groups), default=0.0)
    if new is None or new == own:
        return
    if not own:
        raise RecipeError(f"{key}={new:g}: the optimizer's own code has no {key} above 0 that it could scale")
    for group in optimizer.param_groups:
        if key in group:
            group[key] = group[key] * (new / own)
