"""Which of several optimizers of one loss took the step that was too large.

The loss is of all of them, so that it does not say whose step threw it up; the updates do. The first leap
counts: what follows upon it is thrown too, since the gradient of one part grows with the weights of another.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from downslope.core.history import Floats, Probe
from downslope.diagnosis.early import LEAP

CALM = 10.0
"""Growth of the weights up to which a part has not been thrown. Convention."""

GROWN = 1e3
"""Growth of the weights, or of one first update over another, that leaves no doubt. Convention."""

SMALL = 0.1
"""Root mean square under which weights are small: an update in them says little after a start near zero,
where any first step leaves nothing of them. That of torch's layers is 0.02 to 0.2. Convention."""

_ZERO = 1e-12
"""Size of weights to which `training.probes` sets that of weights that are all zero."""


class Moves(NamedTuple):
    """What is known of the updates that one optimizer made."""

    updates: Probe | None
    """Updates in the weights of the modules that it holds."""
    weights: Probe | None
    """The weights of the same modules before those updates."""
    sizes: Mapping[str, int]
    """Numbers that each module holds."""
    left: float | None
    """Its weights when the first loss was not finite; None where that was not seen."""


def culprit(moves: Sequence[Moves]) -> int | None:
    """Which optimizer threw the weights first; None where that is not known.

    Args:
        moves: Of each optimizer, in steps counted alike.
    """
    leaps = [(*found, i) for i, each in enumerate(moves) if (found := _leap(each)) is not None]
    if not leaps:
        return _grown(moves)
    step, size, one = min(leaps, key=lambda each: (each[0], -each[1]))
    for other in (i for i in range(len(moves)) if i != one):
        grown = _growth(moves[other], step)
        if grown is None or grown > CALM:
            return None
        same = [found for at, found, i in leaps if i == other and at == step]
        if same and not (step == 1 and size > GROWN * same[0]):
            return None
    return one


def _leap(each: Moves) -> tuple[int, float] | None:
    """The first sampled step whose update left nothing of the weights, and the update in the weights."""
    if each.updates is None or each.weights is None:
        return None
    for step, row in zip(each.updates.steps, _relative(each), strict=True):
        known = row[~np.isnan(row)]
        if len(known) and (size := float(np.median(known))) > LEAP:
            return int(step), size
    return None


def _relative(each: Moves) -> Floats:
    """Updates in the weights; in those of size `SMALL` where they are smaller, as after a start from zero."""
    updates, weights = each.updates, each.weights
    if updates is None or weights is None:
        return np.empty((0, 0))
    found = updates.values.copy()
    for column, name in enumerate(updates.modules):
        least = _least(each, (name,))
        for row, step in enumerate(updates.steps):
            at = np.flatnonzero(weights.steps == step)
            if name in weights.modules and len(at):
                size = max(float(weights.of(name)[at[0]]), _ZERO)
                found[row, column] *= size / max(size, least)
    return found


def _least(each: Moves, names: Sequence[str]) -> float:
    """The size of weights that are no smaller than `SMALL`."""
    return SMALL * math.sqrt(sum(each.sizes.get(name, 1) for name in names))


def _growth(each: Moves, step: int) -> float | None:
    """The weights before `step` in those before the first one; None where that was not measured."""
    if each.weights is None:
        return None
    at = np.flatnonzero(each.weights.steps <= step)
    if not len(at):
        return None
    with np.errstate(over="ignore"):
        then = float(np.sqrt(np.nansum(each.weights.values[at[-1]] ** 2)))
    return then / _first(each)


def _first(each: Moves) -> float:
    """The weights before the first step that was measured, no smaller than `SMALL`; 1 where none was."""
    if each.weights is None:
        return 1.0
    row = each.weights.values[0]
    return max(float(np.sqrt(np.nansum(row * row))), _least(each, each.weights.modules))


def _grown(moves: Sequence[Moves]) -> int | None:
    """Without a leap in any sampled step: whose weights alone had grown when the loss was not finite."""
    grown: list[float] = []
    for each in moves:
        if each.weights is None or each.left is None:
            return None
        grown.append(each.left / _first(each))
    far = [i for i, growth in enumerate(grown) if not growth <= GROWN]
    calm = [growth for growth in grown if growth <= CALM]
    return far[0] if len(far) == 1 and len(calm) == len(grown) - 1 else None
