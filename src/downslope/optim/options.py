"""What every optimizer takes beside its hyper-parameters: rounding, dtypes, schedules, and what torch takes
to choose among its implementations.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any, Literal, TypedDict

import torch

from downslope.core.errors import RecipeError
from downslope.optim.domains import check
from downslope.optim.nonfinite import NonFinite
from downslope.optim.scheduled import Schedules

__all__ = ["GROUP_OPTIONS", "Options", "check_options", "taken_apart"]


class Options(TypedDict, total=False):
    """Keyword arguments of every optimizer's constructor.

    `rounding`, `rounding_seed` and `state_dtype` may also stand in a parameter group, and are saved with it.
    """

    rounding: Literal["nearest", "stochastic", "master"]
    """How bfloat16 and float16 parameters take their step, whose arithmetic is float32: "nearest", where
    steps below half a unit in the last place are lost; "stochastic", right on average, states too; "master",
    from a float32 copy, kept as state (4 bytes a parameter, and float32 states)."""
    rounding_seed: int
    """Of the stochastic rounding, from 0 on: the same seed and step draw the same bits."""
    state_dtype: str | torch.dtype | None
    """"float32" keeps the states of parameters of half precision in it; None in the parameter's own dtype, as
    torch does."""
    nonfinite: NonFinite | None
    """What a gradient that is not finite does: "skip" its step, "stop" all steps from then on, or "raise" a
    NonFiniteError; None looks at nothing. See `downslope.optim.nonfinite.Guarded`."""
    schedules: Schedules
    """Hyper-parameters that change from step to step: see `downslope.optim.scheduled`."""
    foreach: bool | None
    fused: bool | None
    capturable: bool | None
    differentiable: bool | None


GROUP_OPTIONS: dict[str, Any] = {"rounding": "nearest", "rounding_seed": 0, "state_dtype": None}
"""Those that may stand in a group, and what counts where they do not."""


def taken_apart(given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any], Any]:
    """What goes into the groups, what chooses an implementation, and the schedules."""
    rest = dict(given)
    schedules = rest.pop("schedules", None)
    own = {name: rest.pop(name) for name in GROUP_OPTIONS if name in rest}
    check_options(own)
    return own, rest, schedules


def check_options(group: MutableMapping[str, Any], defaults: Mapping[str, Any] | None = None) -> None:
    """Checks what a group says of rounding and of the dtype of states; a torch.dtype becomes its name.

    Args:
        group: changed in place.
        defaults: what counts where it says nothing.

    Raises:
        RecipeError: a value outside its domain.
    """
    if isinstance(group.get("state_dtype"), torch.dtype):
        group["state_dtype"] = str(group["state_dtype"]).removeprefix("torch.")
    for name in GROUP_OPTIONS:
        if name in group:
            group[name] = check(name, group[name])
    whole = {"rounding": "nearest", **(defaults or {}), **group}
    if "rounding_seed" in whole and whole["rounding"] != "stochastic":
        raise RecipeError(
            f"rounding_seed={whole['rounding_seed']} belongs to rounding='stochastic', and rounding is "
            f"{whole['rounding']!r}"
        )
