"""The one table of hyper-parameters: where each may lie, what it is, and what is usual.

A rule's field and a group's entry of the same name share one row, so that a value is refused with the same
line wherever it was given: at construction, in a parameter group, or by a scheduler during the run.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from downslope.core.errors import RecipeError
from downslope.core.names import did_you_mean, nearest

__all__ = [
    "ABOVE_ZERO", "DOMAINS", "Choice", "Count", "Domain", "Interval", "Maybe", "Several", "Switch", "check",
    "check_name", "check_of", "domain_text",
]  # fmt: skip


_INF = math.inf

ABOVE_ZERO = math.ulp(0.0)
"""The least float above 0, for an interval without it."""


@dataclass(frozen=True)
class Interval:
    """Real numbers from `low` on, up to `high`; `high` itself only if `closed`."""

    low: float
    high: float
    meaning: str
    usual: str
    closed: bool = False

    def __str__(self) -> str:
        low = 0.0 if self.low == ABOVE_ZERO else self.low
        bracket = "(" if self.low in (-_INF, ABOVE_ZERO) else "["
        return f"{bracket}{low:g}, {self.high:g}{']' if self.closed else ')'}"

    def holds(self, value: float) -> bool:
        """Whether `value` lies inside; NaN and minus infinity lie nowhere."""
        return value > -_INF and (self.low <= value < self.high or (self.closed and value == self.high))


@dataclass(frozen=True)
class Several:
    """`n` numbers, each in `each`, or the k-th in ``each[k]``."""

    each: Interval | Maybe | tuple[Interval | Maybe, ...]
    meaning: str
    n: int = 2

    def __str__(self) -> str:
        if isinstance(self.each, tuple):
            return f"({', '.join(str(each) for each in self.each)})"
        return f"{_words(self.n)} of {self.each}"

    def of(self, i: int) -> Interval | Maybe:
        """Where the i-th may lie."""
        return self.each[i] if isinstance(self.each, tuple) else self.each


@dataclass(frozen=True)
class Count:
    """Whole numbers from `low` on."""

    low: int
    meaning: str
    usual: str

    def __str__(self) -> str:
        return f"{self.low}, {self.low + 1}, ..."


@dataclass(frozen=True)
class Choice:
    """One of several names; None may be one of them."""

    names: tuple[str | None, ...]
    meaning: str

    def __str__(self) -> str:
        return f"one of {', '.join(repr(name) for name in self.names)}"


@dataclass(frozen=True)
class Maybe:
    """None, or what `domain` allows."""

    domain: Interval | Several | Count
    none: str = ""
    """What None means."""

    def __str__(self) -> str:
        return f"{self.domain} or None"


@dataclass(frozen=True)
class Switch:
    """True or False."""

    meaning: str

    def __str__(self) -> str:
        return "True or False"


Domain = Interval | Several | Count | Choice | Maybe | Switch

_MEAN = Interval(0.0, 1.0, "the decay of a mean", "0.9 is usual")

DOMAINS: dict[str, Domain] = {
    "lr": Interval(0.0, _INF, "the length of a step", "0.1 is usual for SGD, 0.001 for Adam"),
    "momentum": Interval(0.0, 1.0, "the share of the last step that is kept", "0.9 is usual"),
    "dampening": Interval(0.0, 1.0, "the share of the gradient that is held back", "0 is usual", True),
    "weight_decay": Interval(0.0, _INF, "the pull towards zero", "0 to 0.1 is usual"),
    "betas": Several(_MEAN, "decays of the means of g and g**2; (0.9, 0.999) is usual"),
    "eps": Interval(0.0, _INF, "what keeps a division from zero", "1e-8 is usual"),
    "nesterov": Switch("look one step of momentum ahead"),
    "centered": Switch("divide by the standard deviation of g in place of its root mean square"),
    "decoupled_weight_decay": Switch("decay the parameters in place of the gradient"),
    "amsgrad": Switch("keep the largest second moment seen"),
    "maximize": Switch("climb in place of descend"),
    "rounding": Choice(
        ("nearest", "stochastic", "master"), "how a parameter of half precision takes its step"
    ),
    "rounding_seed": Count(0, "the seed of stochastic rounding", "0 is usual"),
    "state_dtype": Choice((None, "float32"), "the dtype of the states of parameters of half precision"),
    "nonfinite": Choice((None, "skip", "stop", "raise"), "what is done with a gradient that is not finite"),
    "backend": Choice((None, "reference", "eager", "native", "kernel", "compiled"), "what makes the steps"),
}


Domains = Mapping[str, Domain | None]
"""By the names of hyper-parameters; None where any value may stand."""


def domain_text(name: str, own: Domains | None = None) -> str:
    """What `name` may be, for a table: ``"[0, 1)"``, or ``"any"`` for a name without a row."""
    domain = (own or {}).get(name, DOMAINS.get(name))
    return "any" if domain is None else str(domain)


def check(name: str, value: Any, own: Domains | None = None) -> Any:
    """`value` in the form that rules use: a float, a bool, an int, a name, None, a tuple, or a float64
    tensor.

    A name without a row passes unchanged: it belongs to a rule of the user's own.

    Args:
        name: the hyper-parameter.
        value: a number, a tensor of one number, or a tensor of one number per member of a population.
        own: rows of the rule or the class that has the hyper-parameter; they come before the table, and None
            there takes any value.

    Raises:
        RecipeError: `value` lies outside its domain, or is no number.
    """
    domain = own[name] if own and name in own else DOMAINS.get(name)
    if domain is None or (type(value) is float and isinstance(domain, Interval) and domain.holds(value)):
        return value
    return _checked(name, value, domain)


def check_of(owner: type[Any], name: str, value: Any, own: Domains) -> Any:
    """`check` of what `owner` is made with: a class of the user's own is told how it gets another domain.

    Raises:
        RecipeError: as `check`.
    """
    try:
        return check(name, value, own)
    except RecipeError as error:
        if name in own or owner.__module__.startswith("downslope."):
            raise
        raise RecipeError(
            f"{error}; if {name} is something else in {owner.__name__}, say where it may lie: "
            f"domains = {{{name!r}: None}} there takes any value"
        ) from None


def _checked(name: str, value: Any, domain: Domain) -> Any:
    match domain:
        case Maybe():
            return None if value is None else _checked(name, value, domain.domain)
        case Switch():
            return _checked_switch(name, value, domain)
        case Interval():
            return _checked_number(name, value, domain)
        case Count():
            return _checked_count(name, value, domain)
        case Choice():
            if value not in domain.names:
                raise RecipeError(f"{name}={value!r}: must be {domain}, it is {domain.meaning}")
            return value
        case Several():
            return _checked_several(name, value, domain)


def _checked_several(name: str, value: Any, domain: Several) -> tuple[Any, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence) or len(cast("Any", value)) != domain.n:
        where = f"in {domain.each}" if not isinstance(domain.each, tuple) else f"in {domain}"
        raise RecipeError(f"{name}={value!r}: must be {_words(domain.n)} numbers {where}, {domain.meaning}")
    parts = cast("Sequence[Any]", value)
    return tuple(_checked(f"{name}[{i}]", part, domain.of(i)) for i, part in enumerate(parts))


def _checked_count(name: str, value: Any, domain: Count) -> int:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or int(value) < domain.low:
        raise RecipeError(
            f"{name}={value!r}: must be a whole number from {domain.low} on, it is {domain.meaning}; "
            f"{domain.usual}"
        )
    return int(value)


def _words(n: int) -> str:
    return {2: "two", 3: "three", 4: "four"}.get(n, str(n))


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
