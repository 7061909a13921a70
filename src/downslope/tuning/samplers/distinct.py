"""Spaces of finitely many points, in which a draw may have been tried already: it is not tried twice.

All trials of a search start from the same seed, so that the same values again would be the same trial again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from downslope.core.space import Choice, Integer, Space

if TYPE_CHECKING:
    from downslope.tuning.samplers.sampler import Seen

PATIENCE = 64
"""Draws for each point that is known or wanted, before the others are taken for exhausted."""


def finite(space: Space) -> bool:
    """Whether every dimension has finitely many values."""
    return all(isinstance(each.inner, (Choice, Integer)) for each in space.values())


def points(space: Space) -> int:
    """How many points a finite space has; of one with conditions at most so many."""
    return math.prod(
        inner.high - inner.low + 1 if isinstance(inner := each.inner, Integer) else len(each.grid(1))
        for each in space.values()
    )


def mark(values: Mapping[str, Any]) -> tuple[Any, ...]:
    """What two equal points share; 1, 1.0 and True are three values."""
    return tuple(sorted((key, type(value).__name__, repr(value)) for key, value in values.items()))


def tried(seen: Iterable[Seen]) -> set[tuple[Any, ...]]:
    """The marks of every trial so far."""
    return {mark(each.values) for each in seen}


def draws(known: set[tuple[Any, ...]], n: int) -> int:
    """How many draws are looked at for `n` new ones."""
    return 1000 + PATIENCE * (len(known) + n)


def untried(
    space: Space, at: Callable[[int], dict[str, Any]], known: set[tuple[Any, ...]], n: int
) -> list[dict[str, Any]]:
    """The first `n` of a sequence of draws that are not in `known`, each once; fewer where there are no more.

    Args:
        space: A finite one.
        at: The draw of a number, from 0.
        known: Marks of what has been tried.
        n: How many.
    """
    known, found = set(known), list[dict[str, Any]]()
    most = points(space)
    for i in range(draws(known, n)):
        if len(found) == n or len(known) >= most:
            break
        values = at(i)
        if (own := mark(values)) not in known:
            known.add(own)
            found.append(values)
    return found
