"""What a torch optimizer that somebody made is, in a recipe's words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, cast

import torch
from torch import Tensor

from downslope.core import names
from downslope.optim.clips import clips
from downslope.optim.inside import wrapped
from downslope.optim.stability import method_of

_IMPLEMENTATION = frozenset({"params", "foreach", "fused", "capturable", "differentiable", "maximize"})
"""Entries of a parameter group that choose an implementation, or hold no setting."""


def settings_of(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Name and settings of `optimizer`, as they stand.

    Returns:
        ``name`` ("adam" for torch's class and ours alike, the class's own name for a method that is not
        known), ``class``, the settings of the first group by torch's names (``lr``, ``momentum``, ``betas``,
        ...), and ``groups``, how many there are.
    """
    first = cast("Mapping[str, Any]", optimizer.param_groups[0])
    made = type(optimizer)
    found: dict[str, Any] = {
        "name": method_of(optimizer) or _listed(made) or made.__name__.lower(),
        "class": f"{made.__module__}:{made.__qualname__}",
        "groups": len(optimizer.param_groups),
    }
    if found["name"] == "sgd" and first.get("momentum"):
        found["name"] = "nesterov" if first.get("nesterov") else "momentum"
    for key, value in first.items():
        if key not in _IMPLEMENTATION:
            plain = value.item() if isinstance(value, Tensor) and value.numel() == 1 else value
            if isinstance(plain, (bool, int, float, str, tuple, list)) or plain is None:
                found[key] = plain
    return found


def _listed(made: type[Any]) -> str | None:
    """The name of a class of ours in the catalogue: "cautious_adamw"."""
    if not made.__module__.startswith("downslope."):
        return None
    return next(
        (n for n, r in names.TABLE["optimizer"].items() if r.rpartition(":")[2] == made.__name__), None
    )


def titled(optimizer: torch.optim.Optimizer, name: str) -> dict[str, str]:
    """``title``: who steps `optimizer`, where that is a wrapper; known once it is made or has stepped."""
    found = wrapped(optimizer, name)
    return {"title": found} if found != name else {}


def clips_of(optimizer: torch.optim.Optimizer) -> dict[str, Any] | None:
    """What an optimizer of ours clips by itself (`downslope.optim.clips.Clips`); None for nothing."""
    with suppress(Exception):  # rules of anybody's own; nothing we look at may end anybody's training
        found = clips(optimizer)
        return None if found is None else found._asdict()
    return None


def rate_of(optimizer: torch.optim.Optimizer) -> float:
    """The learning rate of the first group as it stands; NaN without one."""
    lr = optimizer.param_groups[0].get("lr", math.nan)
    return lr if type(lr) is float else float(lr)


def rates_of(*optimizers: torch.optim.Optimizer) -> list[float]:
    """The learning rate of every group as it stands, those without one left out."""
    found = [group.get("lr") for each in optimizers for group in each.param_groups]
    return [float(each) for each in found if each is not None]


def climbing(*optimizers: torch.optim.Optimizer) -> bool:
    """Whether all parameters are stepped up the gradient, by ``maximize=True``."""
    groups = [group for each in optimizers for group in each.param_groups]
    return bool(groups) and all(group.get("maximize") is True for group in groups)


def parameters_of(*optimizers: torch.optim.Optimizer) -> list[Tensor]:
    """Every parameter that the optimizers hold."""
    return [p for each in optimizers for group in each.param_groups for p in group["params"]]
