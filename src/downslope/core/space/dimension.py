"""The dimensions of a search: each turns one number in [0, 1) into a value, and back.

A dimension is the inverse of its distribution function. So random, quasi-random and grid search share it: a
uniform number gives a random value, a point of a Sobol sequence an evenly spread one, equal steps a grid.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from downslope.core.errors import SpaceError

Space = Mapping[str, "Dimension"]
"""Key to dimension; a key is one of the recipe, "betas.0", "model.width", "objective.label_smoothing"."""


class Dimension(ABC):
    """One hyper-parameter's range and its distribution. Frozen; equal where the ranges are."""

    @abstractmethod
    def draw(self, u: float) -> Any:
        """The value at the quantile `u` in [0, 1] of the distribution."""

    @abstractmethod
    def place(self, value: Any) -> float:
        """The quantile in [0, 1] of `value`: ``draw(place(value)) == value`` up to rounding.

        Raises:
            SpaceError: a value outside of the range.
        """

    @abstractmethod
    def grid(self, n: int) -> list[Any]:
        """`n` values in equal steps from end to end, fewer where there are no more; of a choice all."""

    @abstractmethod
    def text(self) -> str:
        """What `parse` reads back as an equal dimension."""

    @property
    def inner(self) -> Dimension:
        """The dimension without its condition."""
        return self

    def __str__(self) -> str:
        return self.text()


@dataclass(frozen=True)
class Uniform(Dimension):
    """A real number, every stretch of [low, high] as likely as its length."""

    low: float
    high: float

    def __post_init__(self) -> None:
        _settle(self, "uniform")

    def draw(self, u: float) -> float:
        """``low + u (high - low)``."""
        return _inside(self.low + u * (self.high - self.low), self.low, self.high)

    def place(self, value: Any) -> float:
        """The share of the range below `value`."""
        return (_number(self, value) - self.low) / (self.high - self.low)

    def grid(self, n: int) -> list[Any]:
        """Equal steps."""
        return [self.draw(u) for u in _steps(n)]

    def text(self) -> str:
        """``uniform:0:0.5``."""
        return f"uniform:{self.low!r}:{self.high!r}"


@dataclass(frozen=True)
class Log(Dimension):
    """A positive number, ``exp(U(log low, log high))``: every factor as likely as another."""

    low: float
    high: float

    def __post_init__(self) -> None:
        _settle(self, "log")
        if self.low <= 0:
            raise SpaceError(
                f"log({self.low:g}, {self.high:g}): {self.low:g} has no logarithm; the low end must be above "
                f"0, such as log({min(1e-4, self.high / 10):g}, {self.high:g})"
            )

    def draw(self, u: float) -> float:
        """``low (high / low)^u``."""
        if u <= 0 or u >= 1:
            return self.low if u <= 0 else self.high
        a, b = math.log(self.low), math.log(self.high)
        return _inside(math.exp(a + u * (b - a)), self.low, self.high)

    def place(self, value: Any) -> float:
        """The share of the factors below `value`."""
        return math.log(_number(self, value) / self.low) / math.log(self.high / self.low)

    def grid(self, n: int) -> list[Any]:
        """Equal factors."""
        return [self.draw(u) for u in _steps(n)]

    def text(self) -> str:
        """``log:0.0001:1.0``."""
        return f"log:{self.low!r}:{self.high!r}"


@dataclass(frozen=True)
class Integer(Dimension):
    """A whole number of [low, high], both ends included; with `log` every factor as likely as another."""

    low: int
    high: int
    log: bool = False

    def __post_init__(self) -> None:
        for name in ("low", "high"):
            value = _python(getattr(self, name))
            if not isinstance(value, (int, float)) or not float(value).is_integer():
                raise SpaceError(
                    f"integer({self.low}, {self.high}): {name}={value!r} is no whole number; uniform(...) "
                    "takes reals"
                )
            object.__setattr__(self, name, int(value))
        if self.low >= self.high:
            raise SpaceError(_no_range("integer", self.low, self.high))
        if self.log and self.low < 1:
            raise SpaceError(
                f"integer({self.low}, {self.high}, log=True): {self.low} has no logarithm; the low end must "
                "be 1 or more"
            )

    def draw(self, u: float) -> int:
        """The number whose cell `u` falls in; a cell is as wide as the number is likely."""
        a, b = self._cells()
        at = a + u * (b - a)
        return min(max(round(math.exp(at)) if self.log else math.floor(at + 0.5), self.low), self.high)

    def place(self, value: Any) -> float:
        """The middle of the cell of `value`."""
        a, b = self._cells()
        found = _number(self, value)
        return ((math.log(found) if self.log else found) - a) / (b - a)

    def grid(self, n: int) -> list[Any]:
        """Equal steps, or factors, rounded; each number once."""
        a, b = float(self.low), float(self.high)
        at = [a * (b / a) ** u if self.log else a + u * (b - a) for u in _steps(n)]
        return sorted({min(max(round(each), self.low), self.high) for each in at})

    def text(self) -> str:
        """``int:16:512``, ``log-int:16:512``."""
        return f"{'log-' if self.log else ''}int:{self.low}:{self.high}"

    def _cells(self) -> tuple[float, float]:
        low, high = self.low - 0.5, self.high + 0.5
        return (math.log(low), math.log(high)) if self.log else (low, high)


@dataclass(frozen=True)
class Choice(Dimension):
    """One of several options, each as likely: text, numbers, True, False, None, tuples of these."""

    options: tuple[Any, ...]

    def __post_init__(self) -> None:
        if not self.options:
            raise SpaceError("choice(): there is nothing to choose from; give two options or more")
        for each in self.options:
            if not _plain(each):
                raise SpaceError(
                    f"choice: {each!r} is code, and a journal holds text and numbers; give its name, such as "
                    "'cross_entropy' or 'package.module:function'"
                )
        seen: list[tuple[type, Any]] = [(type(each), each) for each in self.options]
        double = next((each for i, each in enumerate(seen) if each in seen[:i]), None)
        if double is not None:
            raise SpaceError(f"choice: {double[1]!r} is given twice; give each option once")

    def draw(self, u: float) -> Any:
        """The option whose cell `u` falls in."""
        return self.options[min(int(u * len(self.options)), len(self.options) - 1)]

    def place(self, value: Any) -> float:
        """The middle of the cell of `value`."""
        for i, option in enumerate(self.options):
            if option == value and isinstance(option, bool) == isinstance(value, bool):
                return (i + 0.5) / len(self.options)
        raise SpaceError(f"{value!r} is none of {', '.join(map(repr, self.options))}")

    def grid(self, n: int) -> list[Any]:
        """Every option."""
        del n
        return list(self.options)

    def text(self) -> str:
        """``choice:sgd,adam``; options that commas or colons would tear are quoted."""
        return f"choice:{','.join(map(_word, self.options))}"


@dataclass(frozen=True)
class OneMinus(Dimension):
    """``1 - x`` for `x` of another dimension: momentum as ``1 - 10^U(-3, -1)``, in [0.9, 0.999].

    What is spread evenly, by factors, is the window ``1 / (1 - momentum)``. Low quantiles are values near 1.
    """

    of: Dimension

    def __post_init__(self) -> None:
        if not isinstance(self.of, (Log, Uniform)):
            raise SpaceError(f"one_minus({self.of}): must be of log(...) or uniform(...)")

    def draw(self, u: float) -> float:
        """``1 - of.draw(u)``."""
        return 1.0 - self.of.draw(u)

    def place(self, value: Any) -> float:
        """The quantile of ``1 - value``."""
        return self.of.place(1.0 - value)

    def grid(self, n: int) -> list[Any]:
        """One minus the other's grid."""
        return [1.0 - each for each in self.of.grid(n)]

    def text(self) -> str:
        """``one-minus-log:0.001:0.1``."""
        return f"one-minus-{self.of.text()}"


@dataclass(frozen=True)
class When(Dimension):
    """A dimension that is there only where other keys have certain values."""

    of: Dimension
    conditions: tuple[tuple[str, tuple[Any, ...]], ...]

    @property
    def inner(self) -> Dimension:
        """The dimension without its condition."""
        return self.of

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Whether every condition is met by `values`; a key that is not there meets none."""
        return all(key in values and values[key] in allowed for key, allowed in self.conditions)

    def draw(self, u: float) -> Any:
        """As the dimension without its condition."""
        return self.of.draw(u)

    def place(self, value: Any) -> float:
        """As the dimension without its condition."""
        return self.of.place(value)

    def grid(self, n: int) -> list[Any]:
        """As the dimension without its condition."""
        return self.of.grid(n)

    def text(self) -> str:
        """``log:0.1:1.0 when optimizer=sgd|momentum``."""
        told = [f"{key}={'|'.join(map(_word, allowed))}" for key, allowed in self.conditions]
        return f"{self.of.text()} when {' and '.join(told)}"


def _settle(range_: Uniform | Log, name: str) -> None:
    """Ends as floats, in order.

    Raises:
        SpaceError: no numbers, not finite, empty or reversed.
    """
    for end in ("low", "high"):
        value = _python(getattr(range_, end))
        if not isinstance(value, (int, float)) or not math.isfinite(value):
            raise SpaceError(f"{name}: {end}={value!r} must be a finite number")
        object.__setattr__(range_, end, float(value))
    if not range_.low < range_.high:
        raise SpaceError(_no_range(name, range_.low, range_.high))


def _no_range(name: str, low: float, high: float) -> str:
    if low == high:
        return (
            f"{name}({low:g}, {high:g}) is empty: both ends are {low:g}; a fixed value goes into the recipe"
        )
    return f"{name}({low:g}, {high:g}) is reversed: the low end comes first, {name}({high:g}, {low:g})"


def _number(of: Uniform | Log | Integer, value: Any) -> float:
    value = _python(value)
    if not isinstance(value, (int, float)):
        raise SpaceError(f"{value!r} is no number of {of}")
    slack = 1e-9 * max(abs(of.low), abs(of.high))
    if not of.low - slack <= value <= of.high + slack:
        raise SpaceError(f"{value!r} lies outside of {of}")
    return _inside(value, of.low, of.high)


def _python(value: Any) -> Any:
    """Scalars of numpy as Python's own; a truth value is no number."""
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, bool) else value


def _inside(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)


def _steps(n: int) -> list[float]:
    if n < 1:
        raise SpaceError(f"a grid of {n} values: must be 1 or more")
    return [0.5] if n == 1 else [i / (n - 1) for i in range(n)]


def _plain(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(_plain(each) for each in value)  # pyright: ignore[reportUnknownVariableType]
    return value is None or isinstance(value, (str, bool, int, float))


def _word(option: Any) -> str:
    """An option as `parse` reads it back."""
    if not isinstance(option, str):
        return repr(option)
    bare = option.replace("_", "").replace("-", "").replace(".", "").replace(":", "")
    known = option.lower() in ("true", "false", "none")
    return option if bare.isalnum() and not bare[0].isdigit() and not known else repr(option)
