"""Whether the best values lie at the edge of the space, where better ones may lie beyond it.

The five best trials are at an end of a dimension if their quantiles there sum to less than one, which happens
to values that do not matter with probability 1/120 (Irwin and Hall: ``P(U_1 + ... + U_n <= 1) = 1/n!``), and
the best of them is among the outer `OUTER` of the range.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from downslope.core.errors import DownslopeError
from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.core.space import Dimension, Integer, Log, OneMinus, Space, Uniform, When, settled
from downslope.tuning.trial import Trial

TOP = 5
"""Best trials that are looked at."""

OUTER = 0.1
"""Share of a range that counts as its edge: of 10^U(-5, -1) the outermost 0.4 of a decade."""

Side = Literal["low", "high"]


@dataclass(frozen=True)
class Edge:
    """The best lie at one end of a dimension."""

    key: str
    side: Side
    """Which end of the values: "low" for the smallest."""
    at: float
    """The value of the best trial."""
    dimension: Dimension
    wider: Dimension | None
    """The dimension with half of its range more on that side; None where the key can go no further."""

    def __str__(self) -> str:
        end = "lower" if self.side == "low" else "upper"
        what = f"{self.key}: the best lie at the {end} end ({self.at:.3g} of {self.dimension})"
        return what + (f"; widen to {self.wider}" if self.wider else ", which is as far as it goes")


def edges(
    trials: Sequence[Trial],
    space: Space,
    direction: Literal["min", "max"],
    problem: Problem | None = None,
    recipe: Recipe | None = None,
) -> tuple[Edge, ...]:
    """Where the best trials lie at an end of `space`.

    Args:
        trials: Of the search.
        space: What is, or was, searched.
        direction: Which way values are better.
        problem: With `recipe`, what a wider range is tried on: it is offered as far as the key can go.
        recipe: See `problem`.
    """
    done = [each for each in trials if each.state == "done" and each.value is not None]
    sign = -1.0 if direction == "max" else 1.0
    done.sort(key=lambda each: sign * (each.value or 0.0))
    found: list[Edge] = []
    for key, dimension in space.items():
        if not isinstance(dimension.inner, (Log, Uniform, Integer, OneMinus)):
            continue
        best = [each for each in done if key in each.values and _is_inside(dimension, each.values[key])][:TOP]
        if len(best) < TOP:
            continue
        places = [dimension.place(each.values[key]) for each in best]
        for places_, low in ((places, True), ([1 - u for u in places], False)):
            if sum(places_) <= 1 and places_[0] <= OUTER:
                wider = _widest(problem, recipe, space, key, low)
                flipped = isinstance(dimension.inner, OneMinus)
                side: Side = "low" if low != flipped else "high"
                found.append(Edge(key, side, float(best[0].values[key]), dimension, wider))
    return tuple(found)


def widened(space: Space, found: Sequence[Edge]) -> dict[str, Dimension]:
    """`space` with the wider dimensions of `found`."""
    return dict(space) | {each.key: each.wider for each in found if each.wider is not None}


def stretched(dimension: Dimension, low: bool, share: float = 0.5) -> Dimension:
    """`dimension` with `share` of its range more, in its own geometry, at its low or its high quantiles."""
    if isinstance(dimension, When):
        return replace(dimension, of=stretched(dimension.of, low, share))
    if isinstance(dimension, OneMinus):
        return OneMinus(stretched(dimension.of, low, share))
    if isinstance(dimension, Log) or (isinstance(dimension, Integer) and dimension.log):
        factor = (dimension.high / dimension.low) ** share
        a = dimension.low / factor if low else dimension.low
        b = dimension.high if low else dimension.high * factor
        return (
            Log(_round(a), _round(b))
            if isinstance(dimension, Log)
            else Integer(max(1, round(a)), round(b), log=True)
        )
    if isinstance(dimension, (Uniform, Integer)):
        more = (dimension.high - dimension.low) * share
        a = dimension.low - more if low else dimension.low
        b = dimension.high if low else dimension.high + more
        return Uniform(a, b) if isinstance(dimension, Uniform) else Integer(round(a), round(b))
    return dimension


def _widest(
    problem: Problem | None, recipe: Recipe | None, space: Space, key: str, low: bool
) -> Dimension | None:
    """The stretched dimension, or what of it the key can take; None where that is nothing."""
    share = 0.5
    for _ in range(6):
        try:
            wider = stretched(space[key], low, share)
            if problem is not None and recipe is not None:
                settled(problem, recipe, {**space, key: wider})
        except DownslopeError:
            share /= 2
            continue
        return None if wider == space[key] else wider
    return None


def _is_inside(dimension: Dimension, value: object) -> bool:
    try:
        dimension.place(value)
    except DownslopeError:
        return False
    return True


def _round(value: float) -> float:
    """Three digits: a range is read by people."""
    return float(f"{value:.3g}")


def at_edges(found: Sequence[Edge]) -> Mapping[str, Dimension]:
    """Key to the wider dimension, of those that can go further."""
    return {each.key: each.wider for each in found if each.wider is not None}
