"""muP: widths that share their best learning rate (Yang et al. 2022, Tensor Programs V, table 3).

With the usual start and one rate for all, the best rate moves with the width, and what was tuned on a small
model is wrong for a large one. In the maximal update parametrisation (Yang and Hu 2021) each layer's output
changes by as much in a step at any width, and the best rate stays where it is.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from downslope.core.adapted import unwrap
from downslope.core.errors import ModelError, RecipeError
from downslope.core.method import optimizer_defaults
from downslope.init.auto import RECTIFIERS
from downslope.init.chosen import whole
from downslope.init.growth import Growth, growth
from downslope.init.he import he
from downslope.init.initialise import initialise
from downslope.init.lecun import lecun
from downslope.init.trace import Batch

if TYPE_CHECKING:
    from downslope.core.problem import Problem
    from downslope.core.recipe import Recipe

BY_SIZE = frozenset({
    "adam", "adamw", "amsgrad", "rmsprop", "adagrad", "nadam", "radam", "adamax", "adabelief", "adan",
    "ademamix", "lion", "signum", "cautious_adamw", "cautious_lion",
})  # fmt: skip
"""Methods whose step does not grow with the gradient: they follow table 3's column of Adam."""
PLAIN = frozenset({"sgd", "gd", "momentum", "nesterov", "averaged_momentum"})
_APART = frozenset({"adamw", "adan", "ademamix", "lion", "cautious_adamw", "cautious_lion"})


def _check(*, base: Any, scale: float) -> None:
    if not (isinstance(base, nn.Module) or (isinstance(base, Mapping) and len(base))):  # pyright: ignore
        raise ModelError(
            f"mup: base={base!r}: must say the arguments of the base model, such as {{'width': 64}}: "
            "the width at which the learning rate was found"
        )
    if not 0 <= scale < math.inf:
        raise ModelError(f"mup: scale={scale}: must lie in [0, inf), a factor on what is drawn")


@whole(_check)
@torch.no_grad()
def mup(
    model: nn.Module,
    generator: torch.Generator | None = None,
    *,
    batch: Batch = None,
    base: Any = None,
    scale: float = 1.0,
) -> list[str]:
    """Start a model so that its width can be changed and the learning rate kept, in place.

        input    Var(w) = g / n_in                  hidden  Var(w) = g / n_in
        output   Var(w) = g / n_in * (base n_in / n_in)

    g is 2 before ReLU and its relatives and 1 elsewhere. At the base width it is the usual start. It takes
    the learning rates of `mup_recipe` besides.

    Args:
        model: any module, without lazy parameters.
        generator: of the draws, on the CPU; by default torch's own.
        batch: what the model is called on; with it activations called as functions are seen.
        base: the same model at the base width, of which only the shapes count; in a recipe the arguments of
            the factory that make it: ``{"name": "mup", "base": {"width": 64}}``.
        scale: float in [0, inf), a further factor on what is drawn.

    Returns:
        The names of the parameters that were left as they were.

    Raises:
        ModelError: no base, one of another structure, or a matrix of which it is not known which axis is its
            input.

    Differs from:
        the paper where attention is concerned: it wants ``1/d`` in place of ``1/sqrt(d)``, which belongs to
        the model; with the width of a head kept, and more heads instead, there is nothing to change.
    """
    _check(base=base, scale=scale)
    found = growth(model, base)
    left = initialise(model, functools.partial(_rule, scale), generator, batch=batch)
    own = dict(unwrap(model).named_parameters())
    for role in found:
        if role.kind == "output" and own[role.name].requires_grad:
            own[role.name].mul_(role.grown_in**-0.5)
    return left


def _rule(
    scale: float,
    weight: Tensor,
    generator: torch.Generator | None = None,
    *,
    follows: type[nn.Module] | None = None,
    leak: float = 0.0,
) -> None:
    if follows is not None and issubclass(follows, RECTIFIERS):
        he(weight, generator, slope=leak)
    else:
        lecun(weight, generator)
    weight.mul_(scale)


def mup_recipe(problem: Problem, recipe: Recipe, base: Mapping[str, Any]) -> Recipe:
    """`recipe` for a problem of another width than the one at which its learning rate was found.

    It starts by `mup` and gives each role its rate (table 3): with Adam and its relatives ``lr / r`` to
    hidden and output weights; with SGD ``lr r`` to input weights, biases and norms, and ``lr / r`` to output
    weights; r is the width over the base width. A weight decay that the rate multiplies is divided by the
    same factor, so that their product stays. Editing ``lr`` afterwards keeps the ratios.

    Args:
        problem: Of the width that is to be trained.
        recipe: As it was tuned at the base width; "sgd", "adam", "adamw" or a relative, without groups.
        base: Arguments of the model's factory at the base width, such as ``{"width": 64}``.

    Returns:
        The recipe with its ``init`` and ``groups``.

    Raises:
        RecipeError: another optimizer, groups of its own, or a coupled weight decay under Adam.
        ModelError: what `mup` raises, or an argument that the factory has not.
    """
    name = str(recipe.optimizer)
    if name not in BY_SIZE | PLAIN:
        known = ", ".join(sorted(BY_SIZE | PLAIN))
        raise RecipeError(f"optimizer={name!r}: mup has rates for {known}")
    if recipe.groups:
        raise RecipeError("mup makes groups of its own, and the recipe has some: leave them out")
    settings = {**optimizer_defaults(name), **recipe.settings}
    if recipe.weight_decay and name in BY_SIZE - _APART and not settings.get("decoupled_weight_decay"):
        raise RecipeError(
            f"weight_decay={recipe.weight_decay:g} with {name}, which divides it by the gradient's size: no "
            "width keeps it; optimizer='adamw' keeps decay apart"
        )
    arguments = {f"model.{key}": value for key, value in base.items()}
    small = problem.edit(**arguments).build(weights=False)
    found = growth(problem.build(recipe.seed, weights=False), small)
    start = {"name": "mup", "base": dict(base)}
    return recipe.edit(init=start, groups=_groups(recipe, found, by_size=name in BY_SIZE))


def _groups(recipe: Recipe, found: list[Growth], *, by_size: bool) -> list[dict[str, Any]] | None:
    """A group for each rate and decay that differ from the recipe's; None where none does."""
    if all(each.rate(by_size=by_size) == 1 for each in found):
        return None
    lr, decay, masked = float(recipe.lr or 0.0), recipe.weight_decay, recipe.decay == "weights"
    made: dict[tuple[float, float], list[str]] = {}
    for each in found:
        rate = each.rate(by_size=by_size)
        made.setdefault((lr * rate, 0.0 if masked and each.ndim < 2 else decay / rate), []).append(each.name)
    return [
        {"params": names, "lr": rate} | ({"weight_decay": own} if decay else {})
        for (rate, own), names in made.items()
        if (rate, own) != (lr, decay)
    ]
