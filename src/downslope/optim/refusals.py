"""What an optimizer refuses of what it is given, beside hyper-parameters (`domains`): one clear line each."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from torch import Tensor

from downslope.core.errors import ModelError, RecipeError
from downslope.optim.domains import DOMAINS

__all__ = ["check_alike", "check_foreign", "check_has_params", "check_leaf", "check_saved", "check_trainable"]


def check_has_params(group: Mapping[str, Any]) -> None:
    """Refuses a parameter group without parameters.

    Raises:
        ModelError: it has no ``params``.
    """
    if "params" not in group:
        raise ModelError(
            f"a parameter group has {', '.join(map(repr, group)) or 'nothing'}, but no 'params': "
            'write {"params": [...], "lr": ...}'
        )


def check_leaf(i: int, p: Tensor) -> None:
    """Refuses a tensor that is computed from others, as torch does, unless it keeps its gradient.

    Raises:
        ModelError: `p` is no leaf.
    """
    if not (p.is_leaf or p.retains_grad):
        raise ModelError(
            f"parameter {i} of shape {tuple(p.shape)} is a non-leaf tensor, the result of an operation: a "
            "step would change what is computed anew; pass the parameters that it is computed from"
        )


def check_trainable(groups: Sequence[Mapping[str, Any]]) -> None:
    """Refuses a step where all is frozen. One frozen parameter among others waits to be thawed, as in torch:
    fine-tuning hands over ``model.parameters()`` whole and thaws layers one after another.

    Raises:
        ModelError: no parameter asks for a gradient.
    """
    if not any(p.requires_grad for group in groups for p in group["params"]):
        raise ModelError(
            "every parameter of this optimizer is frozen (requires_grad=False): nothing can move; call "
            "requires_grad_(True) on what shall be trained"
        )


def check_alike(g: Tensor, p: Tensor) -> None:
    """Refuses a gradient that its parameter could not have made.

    Raises:
        RecipeError: another shape, dtype or device.
    """
    pairs = (
        ("shape", tuple(g.shape), tuple(p.shape)),
        ("dtype", g.dtype, p.dtype),
        ("device", g.device, p.device),
    )
    for what, own, wanted in pairs:
        if own != wanted:
            raise RecipeError(
                f"the gradient of a parameter of shape {tuple(p.shape)} has {what} {own}, the parameter "
                f"{wanted}: they must be alike; forget it with zero_grad(), or cast it before the step"
            )


def check_saved(state_dict: Mapping[str, Any]) -> None:
    """Refuses what is no optimizer's state_dict.

    Raises:
        RecipeError: ``state`` or ``param_groups`` is missing.
    """
    if not {"state", "param_groups"} <= set(state_dict):
        found = ", ".join(map(repr, list(state_dict)[:3])) or "nothing"
        raise RecipeError(
            f"a state_dict with {found} in it: an optimizer's has 'state' and 'param_groups'; load what "
            "optimizer.state_dict() gave"
        )


def check_foreign(owner: str, group: Mapping[str, Any], settings: Collection[str]) -> None:
    """Refuses a loaded group with hyper-parameters of another optimizer, whose state may look alike.

    Raises:
        RecipeError: a name of the table of domains that is none of `settings`.
    """
    foreign = sorted(name for name in group if name in DOMAINS and name not in settings)
    if foreign:
        raise RecipeError(
            f"the state_dict's groups have {', '.join(foreign)}, {owner} has {', '.join(sorted(settings))}: "
            "it was saved by another optimizer; load it into one of that class"
        )
