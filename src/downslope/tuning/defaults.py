"""The space that is searched where none is given: what the recipe's optimizer has, in logarithms.

A rate as ``10^U(-5, -1)``, that of gradient descent, whose step has the size of the gradient, as
``10^U(-4, 0)``, a decay as ``10^U(-7, -1)``, a momentum as ``1 - 10^U(-3, -1)``: what matters of
each of them is its factor, of a momentum that of the window ``1 / (1 - momentum)``. In the order in which one
tunes a new model: the rate first, then what averages gradients, then what regularises. Sizes of the model are
searched only where they are asked for: they change what a step costs.
"""

from __future__ import annotations

from downslope.core import names
from downslope.core.errors import SpaceError
from downslope.core.method import is_named, optimizer_defaults
from downslope.core.recipe import Recipe
from downslope.core.space import Dimension, log, one_minus
from downslope.core.wrapped import innermost

LR = (1e-5, 1e-1)
"""Of the learning rate."""
LR_OF_DESCENT = (1e-4, 1.0)
"""Of gradient descent with or without momentum: as many decades, a factor of ten higher. Good rates of it lie
above 0.1 as often as not; those of methods that divide by the gradient's size hardly ever do."""
DESCENT = (
    "gd", "sgd", "momentum", "nesterov", "averaged_momentum", "torch.optim:SGD", "schedule_free_sgd",
)  # fmt: skip
LR_OF_LARS = (1e-2, 1e2)
"""Of LARS, whose step is a thousandth of the weights at 1."""
D_COEF = (1e-1, 10.0)
"""Of the factor of the distance that Prodigy estimates; its authors take 0.5 to 2 and leave the rate at 1."""
DECAY = (1e-7, 1e-1)
"""Of the weight decay."""
AVERAGE = (1e-3, 1e-1)
"""Of one minus a momentum, or minus the decay of a moving average."""
SQUARES = (1e-4, 1e-1)
"""Of one minus the decay of Adam's average of squares, whose default 0.999 is then inside."""
DAMPING = (1e-6, 1.0)
"""Of the damping of a second-order method."""
RADIUS = (1e-2, 1e2)
"""Of the first radius of a trust region."""


def default_space(recipe: Recipe) -> dict[str, Dimension]:
    """What is searched by default for this recipe's optimizer.

    ``lr``, of Prodigy in its place ``d_coef``, then ``momentum``, ``betas.0``, ``betas.1`` or ``alpha``, then
    ``weight_decay``; of methods that search for their step by curvature the ``damping`` or ``radius``. The
    range of the rate is stretched by a factor of ten around one that the recipe says, or around a default
    that lies outside of it. Plain gradient descent is one end of the momentum of "sgd".

    Raises:
        SpaceError: an optimizer that is code, or that has none of these.
    """
    if not is_named(recipe.optimizer):
        raise SpaceError(
            "the optimizer is code, whose settings are not known: give space=, such as "
            "{'lr': ds.log(1e-5, 0.1)}"
        )
    taken = optimizer_defaults(recipe.optimizer)
    found: dict[str, Dimension] = {}
    if "d_coef" in taken:
        found["d_coef"] = log(*D_COEF)
    elif "lr" in taken and not _searches(recipe):
        found["lr"] = log(*_rates(recipe, taken["lr"]))
    if "momentum" in taken:
        plain = not taken["momentum"] and not recipe.settings.get("momentum")
        if recipe.optimizer != "rmsprop":
            found["momentum"] = one_minus(log(AVERAGE[0], 1.0 if plain else AVERAGE[1]))
    if isinstance(betas := taken.get("betas"), tuple) and betas:
        found["betas.0"] = one_minus(log(*AVERAGE))
        found |= {f"betas.{i}": one_minus(log(*SQUARES)) for i in range(1, 2)}
    for key in ("alpha", "rho"):
        if 0.5 <= taken.get(key, 0.0) < 1:  # of AdEMAMix and of others they are no decay of a mean
            found[key] = one_minus(log(*AVERAGE))
    if "damping" in taken and "lr" not in found:
        found["damping"] = log(*DAMPING)
    if "radius" in taken:
        found["radius"] = log(*RADIUS)
    if "weight_decay" in taken and not _searches(recipe):
        found["weight_decay"] = log(*DECAY)
    if not found:
        raise SpaceError(
            f"{recipe.optimizer} has nothing that is searched by default: give space=, such as "
            "{'model.width': ds.integer(16, 512)}"
        )
    return found


def _searches(recipe: Recipe) -> bool:
    """Whether the method finds the length of its step by itself."""
    named = isinstance(recipe.optimizer, str) and ":" not in recipe.optimizer
    return named and getattr(names.resolve("optimizer", recipe.optimizer), "batch", None) == "large"


def _rates(recipe: Recipe, default: object) -> tuple[float, float]:
    """The range of the rate; with a factor of ten around one that was said, or a default outside of it."""
    name = innermost(str(recipe.optimizer))
    low, high = LR_OF_DESCENT if name in DESCENT else LR_OF_LARS if name == "lars" else LR
    lr = recipe.lr if "lr" in recipe.said else default
    if not isinstance(lr, (int, float)) or not lr or ("lr" not in recipe.said and low < lr < high):
        return low, high
    return min(low, float(f"{lr / 10:.12g}")), max(high, float(lr * 10))
