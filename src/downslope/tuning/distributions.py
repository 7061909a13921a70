"""A space as Optuna's distributions: names, parameters and back.

A dimension of complements is kept by its complement, the parameter ``1-momentum`` on a logarithmic axis: a
sampler and a dashboard then see the geometry in which it is searched.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from downslope.core.space import Choice, Dimension, Integer, Log, OneMinus, Space, Uniform
from downslope.core.space.dimension import When

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


def parameter(key: str, dimension: Dimension) -> str:
    """What a journal calls `key`."""
    return f"1-{key}" if isinstance(dimension.inner, OneMinus) else key


def distribution(dimension: Dimension) -> BaseDistribution:
    """Optuna's distribution with the range of `dimension`."""
    from optuna import distributions

    inner = dimension.inner
    if isinstance(inner, OneMinus):
        return distribution(inner.of)
    if isinstance(inner, Log):
        return distributions.FloatDistribution(inner.low, inner.high, log=True)
    if isinstance(inner, Uniform):
        return distributions.FloatDistribution(inner.low, inner.high)
    if isinstance(inner, Integer):
        return distributions.IntDistribution(inner.low, inner.high, log=inner.log)
    if isinstance(inner, Choice):
        return distributions.CategoricalDistribution(list(_labels(inner)))
    raise TypeError(f"{inner!r} has no distribution of Optuna's")


def distributions_of(space: Space) -> dict[str, BaseDistribution]:
    """Parameter to distribution, for every key of `space`."""
    return {parameter(key, each): distribution(each) for key, each in space.items()}


def params_of(space: Space, values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` of keys as parameters of a journal: what JSON holds."""
    return {parameter(key, space[key]): _inwards(space[key], value) for key, value in values.items()}


def values_of(space: Space, params: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of a journal as values of keys; those of other spaces are left out."""
    return reader(space)(params)


def reader(space: Space) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """`values_of` for one space and many trials."""
    table = {parameter(key, each): (key, _outwards(each)) for key, each in space.items()}

    def read(params: Mapping[str, Any]) -> dict[str, Any]:
        return {table[name][0]: table[name][1](it) for name, it in params.items() if name in table}

    return read


def conditional(space: Space) -> bool:
    """Whether some dimension is not there in every trial."""
    return any(isinstance(each, When) for each in space.values())


def _labels(choice: Choice) -> tuple[Any, ...]:
    """The options as a journal holds them: themselves, or their texts where JSON or `==` confuses them."""
    options = choice.options
    plain = all(each is None or isinstance(each, (str, bool, int, float)) for each in options)
    distinct = all(a != b for i, a in enumerate(options) for b in options[:i])
    return options if plain and distinct else tuple(map(repr, options))


def _inwards(dimension: Dimension, value: Any) -> Any:
    inner = dimension.inner
    if isinstance(inner, OneMinus):
        return min(max(1.0 - value, inner.of.draw(0.0)), inner.of.draw(1.0))  # 1 - (1 - value) is value again
    if isinstance(inner, Choice):
        return _labels(inner)[int(inner.place(value) * len(inner.options))]
    return int(value) if isinstance(inner, Integer) else float(value)


def _outwards(dimension: Dimension) -> Callable[[Any], Any]:
    inner = dimension.inner
    if isinstance(inner, OneMinus):
        return lambda value: 1.0 - float(value)
    if isinstance(inner, Choice):
        options, labels = inner.options, _labels(inner)
        return lambda value: options[labels.index(value)]
    return int if isinstance(inner, Integer) else float
