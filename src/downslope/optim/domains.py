"""The one table of hyper-parameters: where each may lie, what it is, and what is usual.

A rule's field and a group's entry of the same name share one row, so that a value is refused with the same
line wherever it was given: at construction, in a parameter group, or by a scheduler during the run.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from downslope.core.errors import RecipeError
from downslope.core.names import did_you_mean, nearest

__all__ = ["DOMAINS", "Domain", "Interval", "Pair", "Switch", "check", "check_name", "domain_text"]


@dataclass(frozen=True)
class Interval:
    """Real numbers from `low` on, up to `high`; `high` itself only if `closed`."""

    low: float
    high: float
    meaning: str
    usual: str
    closed: bool = False

    def __str__(self) -> str:
        return f"[{self.low:g}, {self.high:g}{']' if self.closed else ')'}"

    def holds(self, value: float) -> bool:
        """Whether `value` lies inside; NaN lies nowhere."""
        return self.low <= value < self.high or (self.closed and value == self.high)


@dataclass(frozen=True)
class Pair:
    """Two numbers, each in `each`."""

    each: Interval
    meaning: str

    def __str__(self) -> str:
        return f"two of {self.each}"


@dataclass(frozen=True)
class Switch:
    """True or False."""

    meaning: str

    def __str__(self) -> str:
        return "True or False"


Domain = Interval | Pair | Switch

_INF = math.inf
_MEAN = Interval(0.0, 1.0, "the decay of a mean", "0.9 is usual")

DOMAINS: dict[str, Domain] = {
    "lr": Interval(0.0, _INF, "the length of a step", "0.1 is usual for SGD, 0.001 for Adam"),
    "momentum": Interval(0.0, 1.0, "the share of the last step that is kept", "0.9 is usual"),
    "dampening": Interval(0.0, 1.0, "the share of the gradient that is held back", "0 is usual", True),
    "weight_decay": Interval(0.0, _INF, "the pull towards zero", "0 to 0.1 is usual"),
    "betas": Pair(_MEAN, "decays of the means of g and g**2; (0.9, 0.999) is usual"),
    "alpha": Interval(0.0, 1.0, "the decay of the mean of g**2", "0.9 to 0.99 is usual"),
    "eps": Interval(0.0, _INF, "what keeps a division from zero", "1e-8 is usual"),
    "lr_decay": Interval(0.0, _INF, "the rate at which lr falls, 1 / (1 + lr_decay (t - 1))", "0 is usual"),
    "initial_accumulator_value": Interval(0.0, _INF, "where the sum of g**2 starts", "0 is usual"),
    "nesterov": Switch("look one step of momentum ahead"),
    "centered": Switch("divide by the standard deviation of g in place of its root mean square"),
    "amsgrad": Switch("keep the largest second moment seen"),
    "maximize": Switch("climb in place of descend"),
}


def domain_text(name: str) -> str:
    """What `name` may be, for a table: ``"[0, 1)"``, or ``"any"`` for a name without a row."""
    return str(DOMAINS[name]) if name in DOMAINS else "any"


def check(name: str, value: Any) -> Any:
    """`value` in the form that rules use: a float, a bool, a tuple of floats, or a float64 tensor.

    A name without a row passes unchanged: it belongs to a rule of the user's own.

    Args:
        name: the hyper-parameter.
        value: a number, a tensor of one number, or a tensor of one number per member of a population.

    Raises:
        RecipeError: `value` lies outside its domain, or is no number.
    """
    domain = DOMAINS.get(name)
    if domain is None or (type(value) is float and isinstance(domain, Interval) and domain.holds(value)):
        return value
    if isinstance(domain, Switch):
        return _checked_switch(name, value, domain)
    if isinstance(domain, Interval):
        return _checked_number(name, value, domain)
    if isinstance(value, str) or not isinstance(value, Sequence) or len(cast("Sequence[Any]", value)) != 2:
        raise RecipeError(f"{name}={value!r}: must be two numbers in {domain.each}, {domain.meaning}")
    parts = cast("Sequence[Any]", value)
    return tuple(_checked_number(f"{name}[{i}]", part, domain.each) for i, part in enumerate(parts))


def check_name(given: str, allowed: Sequence[str], owner: str) -> None:
    """Refuses a `given` hyper-parameter that `owner` does not have, and names the nearest it has.

    Raises:
        RecipeError: `given` is not in `allowed`.
    """
    if given in allowed:
        return
    close = nearest(given, allowed, 1)
    hint = f"; did you mean {close[0]!r}?" if close else did_you_mean("", allowed)
    raise RecipeError(f"{owner} has no hyper-parameter {given!r}{hint}")


def _checked_switch(name: str, value: Any, domain: Switch) -> bool:
    if not isinstance(value, bool):
        raise RecipeError(f"{name}={value!r}: must be True or False ({domain.meaning})")
    return value


def _checked_number(name: str, value: Any, domain: Interval) -> float | Tensor:
    if isinstance(value, Tensor):
        if value.numel() == 1:
            value = float(value)
        else:
            return _checked_members(name, value, domain)
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise RecipeError(
            f"{name}={value!r}: must be a number in {domain}, it is {domain.meaning}; {domain.usual}"
        )
    number = float(value)
    if not domain.holds(number):
        raise RecipeError(f"{name}={number:g}: must lie in {domain}, it is {domain.meaning}; {domain.usual}")
    return number


def _checked_members(name: str, value: Tensor, domain: Interval) -> Tensor:
    members = value.detach().to(torch.float64)
    values: list[float] = members.flatten().tolist()
    for i, number in enumerate(values):
        if not domain.holds(number):
            raise RecipeError(
                f"{name} of member {i} = {number:g}: must lie in {domain}, it is {domain.meaning}; "
                f"{domain.usual}"
            )
    return members
