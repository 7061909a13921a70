"""States that were saved: what they may hold, and their dtypes, which torch's loading would change.

torch.optim.Optimizer.load_state_dict casts every floating state to its parameter's dtype (pytorch#43706): of
a bfloat16 model a float32 copy of the weights, float32 means and float64 numbers would be lost. Here a state
keeps the dtype in which it was saved, until its rule says another (`states.give_state`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable, Mapping
from typing import Any, cast

import torch
from torch import Tensor

from downslope.core.errors import RecipeError
from downslope.optim.refusals import check_sizes
from downslope.optim.routes import Routes, routed
from downslope.optim.rule import Chain

__all__ = [
    "BESIDE", "STAMP", "check_stamp", "check_state_keys", "drop_fixed", "kin", "restore", "state_keys",
    "watched",
]  # fmt: skip

Compose = Callable[[Mapping[str, Any]], Chain | Routes]

BESIDE = ("step", "draws", "master")
"""States that the driver keeps beside those of the rules."""

STAMP = "optimizer"
"""Of a state_dict: which class saved it. Torch's classes ignore what stands there, and write nothing."""


def kin(cls: type[Any], root: type[Any]) -> str:
    """The name under which `cls` saves its state: those of one name go on from one another.

    It is the class itself, or what it is derived from (`CautiousAdamW` of `AdamW`), or what it says: GD,
    Momentum and Nesterov have the state of SGD, AdamW has that of Adam. Of these the groups tell what else
    has to be the same.

    Args:
        cls: an optimizer of ours.
        root: the class that all have in common.
    """
    above = [each for each in cls.__mro__ if issubclass(each, root) and each is not root]
    makers = [each.__name__ for each in above if "__init__" in vars(each)]  # not what is mixed in
    return cls.kin or (makers or [cls.__name__])[-1]


def check_stamp(cls: type[Any], root: type[Any], saved: Mapping[str, Any]) -> None:
    """Refuses a state_dict that another optimizer says it has saved; one that says nothing may pass.

    Args:
        cls: into which it is loaded.
        root: see `kin`.
        saved: the state_dict.

    Raises:
        RecipeError: it is of another class.
    """
    said = saved.get(STAMP)
    if isinstance(said, str) and said != kin(cls, root):
        raise RecipeError(
            f"the state_dict is of {said}, not of {cls.__name__}: it was saved by another optimizer, and the "
            f"same names mean other things there; load it into {said}"
        )


@contextlib.contextmanager
def watched(optimizer: torch.optim.Optimizer) -> Generator[list[dict[str, Any]]]:
    """What the block loads into `optimizer`, after all hooks on it."""
    seen: list[dict[str, Any]] = []

    def see(_: torch.optim.Optimizer, given: dict[str, Any]) -> None:
        check_sizes(optimizer.param_groups, given["param_groups"])
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


def state_keys(compose: Compose, group: dict[str, Any], switches: Iterable[str]) -> set[str]:
    """The state's keys under any position of the switches, as what is switched off keeps its state.

    Args:
        compose: from settings to a chain, or to routes.
        group: the settings, and its parameters.
        switches: names of those that are True or False.
    """
    made = compose(group)
    found = {*made.keys, *made.tally}
    found |= {key for chain in routed(made).chains for p in group["params"] for key in chain.keys_of(p)}
    for name in switches:
        for position in (False, True):
            with contextlib.suppress(RecipeError):
                found |= set(compose({**group, name: position}).keys)
    return found


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
