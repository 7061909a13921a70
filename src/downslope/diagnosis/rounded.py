"""Steps that are lost in rounding: weights that have a gradient and stand as they were, bit for bit; pure.

A change of a number is kept from half a unit in its last place on, and is then a whole one at least, between
``eps / 2`` and ``eps`` of the number. So of an update of ``r`` of the weights' size no more than a share
``(2 r / eps) ** 2`` of them, by their squares, has moved at all.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from statistics import median, mode
from typing import Any, NamedTuple

import numpy as np

from downslope.core.history import Floats
from downslope.core.run import Run
from downslope.diagnosis.progress import table

MOVED = 0.1
"""Share of the weights, by their squares, that a step moves at most where steps are lost. Convention."""

GRADIENT = 1e-5
"""Gradient in the weights from which it is none that vanishes: at a rate of 0.1 it moves them by 1e-6."""

_EPS = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
_KEEPS = ("stochastic", "master")


class Lost(NamedTuple):
    """Steps that rounding leaves nothing of."""

    dtype: str
    """Of the weights."""
    ratio: float
    """What is left of an update, in the weights: median over modules and steps."""
    whole: bool
    """Whether no step that was measured moved anything."""

    @property
    def limit(self) -> float:
        """Half a unit in the last place, in the weight, at most."""
        return _EPS[self.dtype] / 2

    @property
    def half(self) -> bool:
        """Whether the weights have half precision, so that float32 would keep more."""
        return self.dtype in ("float16", "bfloat16")


def lost(run: Run) -> Lost | None:
    """The steps of `run`, where most of what they are is rounded away; None where it is kept, or not known.

    None too where the optimizer carries what is left over: by chance, or in weights of its own.
    """
    rule = table(run, "optimizer") if run.recipe is None else run.recipe.settings
    if rule.get("rounding") in _KEEPS or not {"update_ratio", "grad_norm", "weight_norm"} <= set(run.probes):
        return None
    rows, modules = dict(_rows(run)), table(run, "modules")
    shares = {name: median(2 * row / _EPS[modules[name]["dtype"]]) for name, row in rows.items() if len(row)}
    if not shares or 2 * len(shares) < len(rows) or median(shares.values()) > math.sqrt(MOVED):
        return None
    dtype = mode(modules[name]["dtype"] for name in shares)
    whole = not any(rows[name].any() for name in shares)
    return Lost(dtype, median(median(rows[name]) for name in shares), whole)


def _rows(run: Run) -> Iterator[tuple[str, Floats]]:
    """Every module that is stepped with its updates where it had a gradient, as many as were none that
    vanishes.
    """
    updates, gradients, weights = (run.probes[each] for each in ("update_ratio", "grad_norm", "weight_norm"))
    common = np.intersect1d(updates.steps, gradients.steps)
    flow: Mapping[str, Any] = table(run, "flow")
    held = {str(each["name"]) for each in flow.get("held") or ()}
    for name, row in table(run, "modules").items():
        known = all(name in each.modules for each in (updates, gradients, weights))
        if not known or name in held or row.get("dtype") not in _EPS:
            continue
        u, g, w = (each.of(name)[np.isin(each.steps, common)] for each in (updates, gradients, weights))
        there = np.isfinite(u) & np.isfinite(g) & (g > 0)
        if there.any():
            yield name, u[there & (g > GRADIENT * w)]
