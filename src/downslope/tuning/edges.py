"""Whether the best values lie at the edge of the space, where better ones may lie beyond it.

The five best trials are at an end of a dimension if their quantiles there sum to less than one, which happens
to values that do not matter with probability 1/120 (Irwin and Hall: ``P(U_1 + ... + U_n <= 1) = 1/n!``), and
the best of them is among the outer `OUTER` of the range. Few trials are rarely so near: of eight, the five
outermost have a sum of 15/9 on average. So the three best may as well be the three outermost of all, the best
one the last: of n trials that happens by chance in ``3! (n - 3)! / n! / 3``, which is 1/168 for eight.
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

LAST = 8
"""Trials from which the three best may be told from the three outermost by more than chance."""

OUTER = 0.1
"""Share of a range that counts as its edge: of 10^U(-5, -1) the outermost 0.4 of a decade."""

FEW = 0.25
"""The same at most for few trials, the outermost of which is about 1/n from the end."""

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
    gone = [each.values for each in trials if each.state == "failed"]
    done.sort(key=lambda each: sign * (each.value or 0.0))
    found: list[Edge] = []
    for key, dimension in space.items():
        if not isinstance(dimension.inner, (Log, Uniform, Integer, OneMinus)):
            continue
        inside = [each for each in done if key in each.values and _is_inside(dimension, each.values[key])]
        best = inside[:TOP]
        if len(best) < TOP:
            continue
        places = [dimension.place(each.values[key]) for each in inside]
        lost = [dimension.place(v[key]) for v in gone if key in v and _is_inside(dimension, v[key])]
        for low in (True, False):
            if _crowd(places, lost) if low else _crowd([1 - u for u in places], [1 - u for u in lost]):
                wider = _widest(problem, recipe, space, key, low)
                flipped = isinstance(dimension.inner, OneMinus)
                side: Side = "low" if low != flipped else "high"
                found.append(Edge(key, side, float(best[0].values[key]), dimension, wider))
    return tuple(found)


def _crowd(places: Sequence[float], lost: Sequence[float]) -> bool:
    """Whether the best trials crowd at 0; quantiles of all, the best first, and of those that failed."""
    n = len(places)
    if sum(places[:TOP]) <= 1 and places[0] <= OUTER:
        return True
    outermost = n >= LAST and places[0] < min(*places[1:], *lost) and max(places[:3]) < min(places[3:])
    return outermost and places[0] <= max(OUTER, min(2 / n, FEW))


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
