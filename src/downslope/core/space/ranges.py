"""The dimensions as they are asked for: ``ds.log(1e-4, 1)``, ``ds.choice("sgd", "adam")``."""

from __future__ import annotations

from typing import Any, cast

from downslope.core.errors import SpaceError
from downslope.core.space.dimension import Choice, Dimension, Integer, Log, OneMinus, Uniform, When


def log(low: float, high: float) -> Log:
    """A positive number whose logarithm is uniform in [log low, log high].

    Args:
        low: In (0, inf).
        high: In (low, inf).

    Raises:
        SpaceError: an empty or reversed range, or the log of zero.
    """
    return Log(low, high)


def uniform(low: float, high: float) -> Uniform:
    """A number uniform in [low, high].

    Args:
        low: In (-inf, inf).
        high: In (low, inf).

    Raises:
        SpaceError: an empty or reversed range.
    """
    return Uniform(low, high)


def integer(low: int, high: int, log: bool = False) -> Integer:
    """A whole number of [low, high], ends included.

    Args:
        low: A whole number; with `log` 1 or more.
        high: Above `low`.
        log: Whether factors rather than steps are equally likely.

    Raises:
        SpaceError: an empty or reversed range, the log of zero, or a fraction.
    """
    return Integer(low, high, log)


def choice(*options: Any) -> Choice:
    """One of `options`, each as likely: text, numbers, True, False, None, tuples of these.

    Raises:
        SpaceError: no option, one given twice, or one that is code.
    """
    if len(options) == 1 and isinstance(options[0], (list, tuple)):
        options = tuple(options[0])  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    return Choice(tuple(tuple(each) if isinstance(each, list) else each for each in options))  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]


def one_minus(dimension: Dimension) -> OneMinus:
    """One minus a number of `dimension`: ``one_minus(log(1e-3, 1e-1))`` is 1 - 10^U(-3, -1).

    Raises:
        SpaceError: a dimension of whole numbers or of options.
    """
    return OneMinus(dimension)


def when(dimension: Dimension, **conditions: Any) -> When:
    """`dimension`, searched only where other keys of the space have these values.

    Args:
        dimension: What is searched there.
        **conditions: Key to the value, or the list of values, with which it is; keys with a dot as
            ``**{"model.kind": "cnn"}``.

    Raises:
        SpaceError: no condition.
    """
    if not conditions:
        raise SpaceError("when(...) without a condition: say when, as when(log(1e-3, 1), optimizer='sgd')")
    if isinstance(dimension, When):
        conditions = {key: list(allowed) for key, allowed in dimension.conditions} | conditions
        dimension = dimension.of
    met = {
        key: value if isinstance(value, (list, tuple, set)) else (value,) for key, value in conditions.items()
    }
    return When(dimension, tuple((key, tuple(cast("list[Any]", value))) for key, value in met.items()))
