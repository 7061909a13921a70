"""Hyper-parameters that change from step to step: each is its own value times a factor of the step.

    schedules={"momentum": f, "betas": (f, None), "weight_decay": lambda t: 0.99**t}

At the step that follows t steps the group's entry is ``initial * f(t)``; a pair or triple takes one factor an
entry, None leaves one alone. ``f`` is any ``step -> float``, such as those of `downslope.schedules`. What a
group starts from stands in it as ``initial_<name>``, the number of steps as ``scheduled``: both are saved
with the state, the functions are not. What is scheduled here is not to be set from outside too, by hand (the
next step refuses it) or by one of torch's schedulers (the first does). To change it, change
``initial_<name>``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from downslope.core.errors import RecipeError
from downslope.core.names import did_you_mean

__all__ = ["Schedule", "Schedules", "Scheduler", "check_alone", "check_schedules"]

Schedule = Callable[[int], float]
"""From the number of steps made to a factor."""

Schedules = Mapping[str, Schedule | Sequence[Schedule | None]]
"""By the names of hyper-parameters."""


class Scheduler:
    """Writes the scheduled entries of parameter groups.

    Args:
        schedules: what changes.
        defaults: the optimizer's hyper-parameters, for the check.
        counter: the entry of a group that counts its steps.

    Raises:
        RecipeError: a misspelt name, a switch, or something that cannot be called.
    """

    def __init__(self, schedules: Schedules, defaults: Mapping[str, Any], counter: str = "scheduled") -> None:
        check_schedules(schedules, defaults)
        self.schedules, self.counter = dict(schedules), counter
        self._written: list[tuple[dict[str, Any], dict[str, Any]]] = []

    def begin(self, groups: Sequence[dict[str, Any]], state: Mapping[Tensor, Mapping[str, Any]]) -> None:
        """Sets the entries of the step that follows.

        Args:
            groups: ``param_groups``.
            state: ``optimizer.state``, which tells the steps of a group whose count was not saved.

        Raises:
            RecipeError: an entry was changed from outside, or a schedule gives no number.
        """
        for i, group in enumerate(groups):
            t = group.setdefault(self.counter, _made(group, state))
            if i < len(self._written) and self._written[i][0] is group:  # nothing is known of one just loaded
                _check_own(group, self._written[i][1])
            for name, schedule in self.schedules.items():
                start = group.setdefault(f"initial_{name}", _plain(group[name]))
                if callable(schedule):
                    group[name] = start * _factor(name, schedule, t)
                else:
                    pairs = zip(start, schedule, strict=True)
                    group[name] = tuple(x if f is None else x * _factor(name, f, t) for x, f in pairs)
        self._written = [(group, {name: group[name] for name in self.schedules}) for group in groups]

    def end(self, groups: Sequence[dict[str, Any]]) -> None:
        """Counts the step that was made."""
        for group in groups:
            group[self.counter] += 1


def check_alone(optimizer: torch.optim.Optimizer, scheduled: Collection[str]) -> None:
    """Refuses one of torch's schedulers on `optimizer`, where `scheduled` has what it sets.

    They put themselves around ``step`` when they are made, so that the first step knows of them; of one that
    does not (ReduceLROnPlateau) only what it sets is seen.

    Raises:
        RecipeError: both set a hyper-parameter.
    """
    if not hasattr(vars(optimizer).get("step"), "_wrapped_by_lr_sched"):
        return
    cycled = any("max_momentum" in group for group in optimizer.param_groups)  # OneCycleLR and CyclicLR
    for name in ("lr", *(("momentum", "betas") if cycled else ())):
        if name in scheduled:
            raise RecipeError(
                f"{name} is set by one of torch's schedulers on this optimizer, and schedules has it: each "
                f"overwrites the other; leave {name} out of schedules, or leave out the scheduler beside it"
            )


def _check_own(group: Mapping[str, Any], left: Mapping[str, Any]) -> None:
    """Refuses entries that are not as the last step left them."""
    for name, former in left.items():
        value = group[name]
        if not (value is former or _equal(value, former)):
            raise RecipeError(
                f"{name} was set to {value} from outside, and schedules has it ({former}): each overwrites "
                f"the other; leave {name} out of schedules, or leave out the scheduler beside it (by hand, "
                f"change initial_{name})"
            )


def _factor(name: str, schedule: Schedule, t: int) -> Any:
    """What the schedule gives for the step."""
    try:
        found: Any = schedule(t)
        return found if isinstance(found, Tensor) else float(found)
    except (TypeError, ValueError) as error:
        raise RecipeError(
            f"schedules[{name!r}] at step {t}: {error}; must be a function of the step to a factor"
        ) from error


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return bool((torch.as_tensor(a) == torch.as_tensor(b)).all())
    return bool(a == b)


def _made(group: Mapping[str, Any], state: Mapping[Tensor, Mapping[str, Any]]) -> int:
    return max((int(state.get(p, {}).get("step", 0)) for p in group["params"]), default=0)


def check_schedules(schedules: Any, defaults: Mapping[str, Any]) -> None:
    """Refuses schedules of what `defaults` has not, or what are none.

    Raises:
        RecipeError: a misspelt name, a switch, or something that cannot be called.
    """
    if not isinstance(schedules, Mapping):
        raise RecipeError(f"schedules={schedules!r}: must be a mapping of names to functions of the step")
    for name, schedule in cast("Mapping[Any, Any]", schedules).items():
        if name not in defaults:
            raise RecipeError(
                f"schedules: there is no hyper-parameter {name!r}{did_you_mean(str(name), list(defaults))}"
            )
        value = defaults[name]
        if isinstance(value, tuple):
            entries = cast("tuple[Any, ...]", schedule) if isinstance(schedule, (tuple, list)) else ()
            right = len(entries) == len(cast("tuple[Any, ...]", value))
            if not right or not all(each is None or callable(each) for each in entries):
                n = len(cast("tuple[Any, ...]", value))
                raise RecipeError(
                    f"schedules[{name!r}]: {name} has {n} entries, so it takes {n} functions of the step, "
                    "None for one that stays"
                )
        elif isinstance(value, (bool, str)) or value is None or not callable(schedule):
            raise RecipeError(
                f"schedules[{name!r}]={schedule!r}: must be a function of the step to a factor, of a "
                f"hyper-parameter that is a number (it is {value!r})"
            )


def _plain(value: Any) -> Any:
    return float(value) if isinstance(value, Tensor) and value.numel() == 1 else value
