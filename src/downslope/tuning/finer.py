"""The next search after this one: finer where it mattered, wider where the best lie at an edge, else fixed.

One tunes in rounds: a coarse search first, then a finer one around what was good (Bergstra and Bengio 2012;
Bengio 2012, Practical recommendations for gradient-based training of deep architectures, section 3.3). A key
that did nothing more than chance keeps the value of the best and is searched no further; one of which too few
trials tell is searched as it was.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from downslope.core.errors import DownslopeError
from downslope.core.space import Choice, Dimension, Integer, Log, OneMinus, Space, Uniform, When
from downslope.tuning.compared import ranked
from downslope.tuning.confirmed import distinct
from downslope.tuning.edges import Edge
from downslope.tuning.importance import Importance
from downslope.tuning.trial import Trial

SHARE = 0.15
"""Share of the trials that count as good."""
LEAST = 5
"""Good trials, at least."""
MARGIN = 0.1
"""Share of the whole range that is added on both sides of what is good."""


def finer(
    trials: Sequence[Trial],
    space: Space,
    direction: Literal["min", "max"],
    found: Sequence[Importance],
    edges: Sequence[Edge],
    best: Mapping[str, Any],
) -> dict[str, Dimension]:
    """The space of the next search.

    Args:
        trials: Of this search.
        space: Of this search.
        direction: Which way values are better.
        found: What mattered; empty where that is not known, and all keys stay.
        edges: Where the best lie at an end: that end is widened instead.
        best: The best configuration, from which what is searched no further takes its value.
    """
    tried = ranked(trials, direction)
    good = distinct(tried, max(LEAST, math.ceil(SHARE * len(tried))))
    matter = [each.key for each in found if each.mattered] if found else list(space)
    unsure = [each.key for each in found if each.open]
    wide = {each.key: each for each in edges}
    kept = {
        key: space[key]
        if key in unsure and key not in wide
        else _around(space[key], good, key, wide.get(key))
        for key in space
        if key in matter or key in unsure or key in wide
    }
    return {key: _held(each, kept) for key, each in kept.items() if _reachable(each, kept, best)}


def _around(dimension: Dimension, good: Sequence[Trial], key: str, edge: Edge | None) -> Dimension:
    """`dimension` from the lowest to the highest of the good trials, and a margin."""
    inner = dimension.inner
    whole = edge.wider if edge is not None and edge.wider is not None else dimension
    values = [each.values[key] for each in good if key in each.values]
    if not values:
        return dimension
    if isinstance(inner, Choice):
        options = tuple(option for option in inner.options if option in values)
        return _like(dimension, Choice(options)) if len(options) > 1 else dimension
    try:
        places = [whole.place(value) for value in values]
        low, high = max(min(places) - MARGIN, 0.0), min(max(places) + MARGIN, 1.0)
        if edge is not None and edge.wider is not None:  # all of what was added
            at_low = (edge.side == "low") != isinstance(inner, OneMinus)
            low, high = (0.0, high) if at_low else (low, 1.0)
        return _like(dimension, _between(whole.inner, low, high))
    except DownslopeError:
        return dimension


def _between(inner: Dimension, low: float, high: float) -> Dimension:
    """The part of a dimension between two quantiles, its ends to three digits."""
    if isinstance(inner, OneMinus):
        return OneMinus(_between(inner.of, low, high))
    if isinstance(inner, Log):
        return Log(_digits(inner.draw(low)), _digits(inner.draw(high)))
    if isinstance(inner, Uniform):
        return Uniform(_digits(inner.draw(low)), _digits(inner.draw(high)))
    if isinstance(inner, Integer):
        return Integer(inner.draw(low), inner.draw(high), inner.log)
    return inner


def _like(dimension: Dimension, inner: Dimension) -> Dimension:
    """`inner` under the condition of `dimension`."""
    return When(inner, dimension.conditions) if isinstance(dimension, When) else inner


def _reachable(dimension: Dimension, kept: Space, best: Mapping[str, Any]) -> bool:
    """Whether no condition on a key that is searched no further rules it out."""
    conditions = dimension.conditions if isinstance(dimension, When) else ()
    return all(key in kept or best.get(key) in allowed for key, allowed in conditions)


def _held(dimension: Dimension, kept: Space) -> Dimension:
    """`dimension` without the conditions on keys that are searched no further."""
    if not isinstance(dimension, When):
        return dimension
    conditions = tuple((key, allowed) for key, allowed in dimension.conditions if key in kept)
    return When(dimension.of, conditions) if conditions else dimension.of


def _digits(value: float) -> float:
    return float(f"{value:.3g}")
