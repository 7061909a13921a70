"""A function of one's own in the place of a classic one: of which nothing is known but its values."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from downslope.core.errors import InputError, ObjectiveError
from downslope.terrain.functions.function import Function
from downslope.terrain.functions.named import get


def own(
    function: str | Function | Callable[[Tensor], Tensor],
    start: Sequence[float] | None = None,
    domain: Sequence[Sequence[float]] | None = None,
) -> Function:
    """A classic function by its name, or one's own as one of them.

    Args:
        function: A name, a function of `downslope.terrain.functions`, or any function of points of shape
            (..., dimension), giving (...).
        start: Where it is begun; one's own needs it, which tells how many coordinates there are.
        domain: Lower and upper end of each coordinate; left out, as far from the start as that is from 0.

    Raises:
        InputError: a function of one's own without a start, a domain of another dimension, or no function.
        ObjectiveError: no value for each point.
    """
    if isinstance(function, (str, Function)):
        made = get(function)
        return made if domain is None else _within(made, domain)
    given = function
    if not callable(cast("Any", function)):
        raise InputError(
            f"{type(given).__name__} is no function: give a name such as 'rosenbrock', or one of points"
        )
    if start is None:
        raise InputError("a function of your own needs start=, where the paths begin: start=(1.0, 0.0)")
    begun = tuple(float(each) for each in start)
    check_values(given, torch.tensor(begun, dtype=torch.float64))
    reach = max(1.0, *map(abs, begun))
    name = str(getattr(given, "__name__", type(given).__name__)).replace("<lambda>", "f")
    made = Function(
        name=name, formula="a function of one's own", dimension=len(begun), evaluate=given,
        domain=tuple((each - reach, each + reach) for each in begun), start=begun, whole=False,
        infimum=math.nan, attained=False,
    )  # fmt: skip
    return made if domain is None else _within(made, domain)


def _within(function: Function, domain: Sequence[Sequence[float]]) -> Function:
    ends = tuple((float(low), float(high)) for low, high in domain)
    if len(ends) != function.dimension or not all(low < high for low, high in ends):
        raise InputError(
            f"domain={domain}: must be a lower and an upper end for each of {function.dimension} coordinates"
        )
    return replace(function, domain=ends)


def check_values(function: Callable[[Tensor], Tensor], point: Tensor) -> None:
    """Refuse a function that does not give a value for each of several points.

    Raises:
        ObjectiveError: what it gave, and what is asked for.
    """
    value = cast(object, function(point.expand(3, -1)))
    if not isinstance(value, Tensor) or value.shape != (3,):
        what = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise ObjectiveError(
            f"the function gave {what} for 3 points of shape (3, {len(point)}): it takes many points at "
            "once, (..., size), and gives a value for each, (...,)"
        )


def around(paths: Sequence[Any]) -> tuple[tuple[float, float], ...]:
    """Ends of each coordinate around points, shape (n, dimension) each, with room beside them."""
    every = np.concatenate(paths)
    every = every[np.isfinite(every).all(1)]
    low, high = every.min(0), every.max(0)
    wide = float((high - low).max()) or 1.0
    room = np.maximum(0.15 * (high - low), 0.1 * wide)
    return tuple((float(a), float(b)) for a, b in zip(low - room, high + room, strict=True))
