"""An objective with settings, which a file can hold and a command line change: ``huber(delta=2.0)``."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor

from downslope.core import names
from downslope.core.errors import ObjectiveError
from downslope.core.spelling import Spelt, spell
from downslope.core.stated import reference

MARKS = ("expects", "target", "surrogate_for", "sum_over", "likelihood", "reduction")
"""What `downslope.objectives.objective.objective` writes on a function."""

_GIVEN = ("output", "target", "inputs", "model", "reduction")
"""Arguments that are no settings."""


@dataclass(frozen=True)
class Setting:
    """The domain of a setting, in words and as a check."""

    domain: str
    fits: Callable[[float], bool]
    several: bool = False
    """Whether a list of such numbers, one for each class, may be given."""


DOMAINS: dict[str, Setting] = {
    "label_smoothing": Setting("a number in [0, 1]", lambda v: 0 <= v <= 1),
    "delta": Setting("a number in (0, inf)", lambda v: v > 0),
    "weight": Setting("numbers in [0, inf), one for each class", lambda v: v >= 0, several=True),
    "ignore_index": Setting("a whole number", lambda v: v == int(v)),
    "pos_weight": Setting("a number in (0, inf), or one for each column", lambda v: v > 0, several=True),
}
"""Settings of the objectives here."""


@dataclass(frozen=True, eq=False)
class Configured:
    """``function(output, target, **settings)``, with the attributes of the function.

    Args:
        function: an objective, of this package or a user's own.
        settings: plain values of its keyword arguments.
    """

    function: Callable[..., Tensor]
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        known = settings_of(self.function)
        for key in self.settings:
            if key not in known:
                raise ObjectiveError(f"{self.__name__}: no setting {key!r}{names.did_you_mean(key, known)}")
        read = {key: _read(self.__name__, key, value) for key, value in self.settings.items()}
        object.__setattr__(self, "settings", read)
        for mark in MARKS:
            object.__setattr__(self, mark, getattr(self.function, mark, None))

    def __call__(self, output: Any, target: Any, **given: Any) -> Tensor:
        """The function's own value under the settings."""
        return self.function(output, target, **self.settings, **given)

    @property
    def weight(self) -> Tensor | None:
        """Factors of the classes, where they are set."""
        given = self.settings.get("weight")
        return None if given is None else torch.tensor(given)

    @property
    def ignore_index(self) -> int:
        """The class index that does not count; torch's own unless it is set."""
        return int(self.settings.get("ignore_index", -100))

    @property
    def __name__(self) -> str:
        return str(getattr(self.function, "__name__", type(self.function).__name__))

    @property
    def __signature__(self) -> inspect.Signature:
        """That of the function without what is settled, so that what it asks for is read off."""
        own = inspect.signature(self.function)
        return own.replace(parameters=[p for k, p in own.parameters.items() if k not in self.settings])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Configured) and repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))

    @property
    def spelling(self) -> str:
        """The text that makes it again."""
        return spell(str(short(self.function)), (), self.settings)

    def __repr__(self) -> str:
        return self.spelling


def settings_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Settings of an objective, by name, with their defaults."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return {}
    return {
        key: None if p.default is p.empty else p.default
        for key, p in list(parameters.items())[2:]
        if key not in _GIVEN and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    }


def short(objective: Any) -> Any:
    """An objective as a text holds it: its name in the table, or what `reference` says; settings apart."""
    if isinstance(objective, str):
        return objective if ":" in objective else names.canonical("objective", objective)
    if hasattr(objective, "spelling"):
        return Spelt(objective.spelling)
    name = str(getattr(objective, "__name__", ""))
    if name in names.TABLE["objective"] and names.resolve("objective", name) is objective:
        return name
    return reference(objective)


def _read(name: str, key: str, value: Any) -> Any:
    """A setting as a plain value inside its domain.

    Raises:
        ObjectiveError: outside of it.
    """
    plain = value.tolist() if hasattr(value, "tolist") else value
    if (domain := DOMAINS.get(key)) is None:
        return plain
    if plain is None:
        return None
    listed = isinstance(plain, (list, tuple))
    numbers: list[Any] = list(cast("Any", plain)) if listed else [plain]
    right = all(_number(each) and domain.fits(float(each)) for each in numbers)
    if not right or not numbers or (listed and not domain.several):
        raise ObjectiveError(f"{name}: {key}={value!r}: must be {domain.domain}")
    return tuple(float(each) for each in numbers) if listed else float(plain)


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
