"""A function's own ground, as a slice: every point of its domain is computed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from downslope.core.errors import InputError
from downslope.terrain.functions import Function, get
from downslope.terrain.slices.slice import Axis, Floats, Mark, Slice, grid, logarithmic

MARKED = 60
"""Critical points up to which all are marked; of more, the global minima alone."""


def surface(
    function: str | Function,
    *,
    points: int = 201,
    domain: Sequence[tuple[float, float]] | None = None,
    around: Sequence[Floats] = (),
) -> Slice:
    """The values of a function of one or two coordinates, with its critical points marked.

    Args:
        function: Itself or its name.
        points: Of each axis, at least 3.
        domain: Ends of each coordinate; left out, the function's own.
        around: Points that are to be seen, shape (n, dimension) each; the domain grows for them by up to its
            own width.

    Raises:
        InputError: more coordinates than two.
    """
    made = get(function)
    if made.dimension > 2:
        raise InputError(
            f"{made.spelt} has {made.dimension} coordinates: a surface has one or two; paths tells values"
        )
    if points < 3:
        raise InputError(f"points={points}: must be at least 3 of each axis")
    ends = list(domain or made.domain)
    for index, (low, high) in enumerate(ends):
        seen = np.concatenate([each[:, index] for each in around]) if around else np.array([])
        seen = seen[np.isfinite(seen) & (seen > low - (high - low)) & (seen < high + (high - low))]
        if len(seen):
            margin = 0.04 * (high - low)
            low, high = min(low, float(seen.min()) - margin), max(high, float(seen.max()) + margin)
        ends[index] = (low, high)
    letters = ("x",) if made.dimension == 1 else ("x", "y")
    axes = tuple(Axis(name, np.linspace(*end, points)) for name, end in zip(letters, ends, strict=True))
    at = torch.from_numpy(grid(axes))
    values = made(at).numpy().reshape((points,) * made.dimension)
    good = values[np.isfinite(values)]
    above = good - good.min() + 1e-3 * (np.median(good) - good.min() or 1.0)
    return Slice(
        title=f"{made.spelt}: {made.formula}", quantity="value", axes=axes, values=values,
        evaluated=np.ones(values.shape, dtype=bool), marks=marks_of(made),
        notes=(made.shows,) if made.shows else (),
        log=made.dimension == 2 and made.infimum != -math.inf and logarithmic(above),
    )  # fmt: skip


def marks_of(function: Function) -> tuple[Mark, ...]:
    """The critical points of a function, as they are marked on its ground."""
    shown = function.critical if len(function.critical) <= MARKED else function.lowest
    return tuple(
        Mark(each.at, "global minimum" if each.is_global else each.kind, each.value, each.kind)
        for each in shown
    )
