"""What torch's profiler and hooks on saving and loading see of an optimizer that has them by itself."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch

from downslope.optim import ops

__all__ = ["labelled", "loading", "saving"]


def labelled(optimizer: torch.optim.Optimizer) -> contextlib.AbstractContextManager[Any]:
    """What a profiler sees of a step, named as torch names it; the base's own lies inside."""
    if not ops.is_profiling():
        return contextlib.nullcontext()
    return torch.autograd.profiler.record_function(f"Optimizer.step#{type(optimizer).__name__}.step")


def saving(optimizer: torch.optim.Optimizer, saved: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `saved` gives, with the hooks on ``state_dict`` before and after it; theirs, where one returns it.

    Args:
        optimizer: on which the hooks are registered.
        saved: makes the state_dict.
    """
    hooks: Any = optimizer
    for hook in list(hooks._optimizer_state_dict_pre_hooks.values()):
        hook(optimizer)
    found = saved()
    for hook in list(hooks._optimizer_state_dict_post_hooks.values()):
        changed: Any = hook(optimizer, found)
        found = found if changed is None else changed
    return found


def loading(
    optimizer: torch.optim.Optimizer, given: dict[str, Any], load: Callable[[dict[str, Any]], None]
) -> None:
    """Loads `given`, with the hooks on ``load_state_dict`` before and after it.

    Args:
        optimizer: on which the hooks are registered.
        given: the state_dict; a hook may change a copy of it, or return another one.
        load: takes it in.
    """
    hooks: Any = optimizer
    given = given.copy()  # a shallow one, as torch makes it
    for hook in list(hooks._optimizer_load_state_dict_pre_hooks.values()):
        changed: Any = hook(optimizer, given)
        given = given if changed is None else changed
    load(given)
    for hook in list(hooks._optimizer_load_state_dict_post_hooks.values()):
        hook(optimizer)
