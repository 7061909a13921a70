"""States that were saved: what they may hold, and their dtypes, which torch's loading would change.

torch.optim.Optimizer.load_state_dict casts every floating state to its parameter's dtype (pytorch#43706): of
a bfloat16 model a float32 copy of the weights, float32 means and float64 numbers would be lost. Here a state
keeps the dtype in which it was saved, until its rule says another (`states.give_state`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Mapping
from typing import Any, cast

import torch
from torch import Tensor

from downslope.core.errors import RecipeError

__all__ = ["BESIDE", "check_state_keys", "drop_fixed", "restore", "watched"]

BESIDE = ("step", "draws", "master")
"""States that the driver keeps beside those of the rules."""


@contextlib.contextmanager
def watched(optimizer: torch.optim.Optimizer) -> Generator[list[dict[str, Any]]]:
    """What the block loads into `optimizer`, after all hooks on it."""
    seen: list[dict[str, Any]] = []

    def see(_: torch.optim.Optimizer, given: dict[str, Any]) -> None:
        seen.append(given)

    handle = optimizer.register_load_state_dict_pre_hook(see)
    try:
        yield seen
    finally:
        handle.remove()


def restore(
    optimizer: torch.optim.Optimizer,
    given: Mapping[str, Any],
    hosted: Callable[[dict[str, Any]], set[str]],
) -> None:
    """Puts the tensors of the loaded `given` into the state, in their own dtypes, as copies.

    Args:
        optimizer: into which torch has loaded it.
        given: the state_dict.
        hosted: from a group to its states that stay on the host.
    """
    for group, saved in zip(optimizer.param_groups, given["param_groups"], strict=True):
        host = hosted(group)
        for p, number in zip(group["params"], saved["params"], strict=True):
            found: dict[str, Any] = given["state"].get(number, {})
            if found:
                optimizer.state[p] = {
                    key: _placed(value, p, key in host)
                    for key, value in {**optimizer.state[p], **found}.items()
                }


def _placed(value: Any, p: Tensor, host: bool) -> Any:
    if not isinstance(value, Tensor):
        return value
    device = torch.device("cpu") if host else p.device
    return value.detach().to(device=device, copy=True)


def check_state_keys(
    owner: str, group: Mapping[str, Any], state: Mapping[Tensor, Any], own: set[str]
) -> None:
    """Refuses states of another optimizer.

    Args:
        owner: the class, for the message.
        group: whose parameters' states are looked through.
        state: ``optimizer.state``.
        own: what the rules of the group keep.

    Raises:
        RecipeError: a state that none of them has.
    """
    known = {*own, *BESIDE}
    for p in group["params"]:
        unknown = set(cast("dict[str, Any]", state.get(p, {}))) - known
        if unknown:
            kept = ", ".join(sorted({*own, "step"}))
            raise RecipeError(
                f"the state_dict holds {', '.join(sorted(unknown))}, {owner} keeps {kept}: it was saved by "
                "another optimizer; load it into one of that class"
            )


def drop_fixed(owner: str, fixed: Mapping[str, Any], group: dict[str, Any]) -> None:
    """Takes out of a group, or out of arguments, what is no setting of `owner`, whose value is known.

    Raises:
        RecipeError: another value than that of `fixed`.
    """
    for name, value in fixed.items():
        given = group.pop(name, value)
        if given != value:
            other = ("AdamW" if given else "Adam") if name == "decoupled_weight_decay" else "SGD"
            raise RecipeError(f"{name}={given!r}: with {owner} it is always {value!r}; use {other}")
