"""Curvature below zero that no rounding makes: seen again in values of the loss, over steps that can be seen.

An eigenvalue below zero by more than its residual may still be what is left where larger terms cancelled. So
it counts as a proof only where a chord runs below the graph by more than the loss itself is rounded.
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import torch

from downslope.terrain.ground import Ground
from downslope.terrain.hvp import length
from downslope.terrain.surveys.profile import Profile
from downslope.terrain.surveys.reach import reach_of

ULPS = 64
"""Rounding of a loss, in units of its precision."""

LOOKS = 4
"""Points next to one another at which it is seen how much the loss jitters."""


class Chord(NamedTuple):
    """A chord below the graph, along a direction."""

    start: float
    """Where it begins, as a length along the direction."""
    end: float
    """Where it ends."""
    excess: float
    """The loss in its middle less the mean of its ends, above zero."""
    error: float
    """Rounding of `excess`."""


def chord(line: Profile, eps: float, jitter: float = 0.0) -> Chord | None:
    """The chord between points of `line` that is furthest below the graph; None where none is, surely.

    Args:
        line: The loss along a direction.
        eps: Precision of the losses.
        jitter: What else the losses are rounded by, `jitters`.
    """
    known = dict(zip(line.lengths, line.losses, strict=True))
    found: list[Chord] = []
    for a, b in itertools.combinations(line.lengths, 2):
        middle = known.get((a + b) / 2)
        if middle is None:
            continue
        excess = middle - (known[a] + known[b]) / 2
        error = ULPS * eps * (abs(known[a]) + abs(known[b]) + abs(middle)) + jitter
        if math.isfinite(excess) and excess > error:
            found.append(Chord(a, b, excess, error))
    return max(found, key=lambda each: each.excess / each.error if each.error else math.inf, default=None)


def jitters(ground: Ground, loss: float) -> float:
    """Four times how far the loss jumps between points that differ by the rounding of the weights.

    Args:
        ground: Where it stands; it is put back there.
        loss: There.
    """
    here = ground.where()
    eps, draw = torch.finfo(here.dtype).eps, torch.Generator().manual_seed(0)
    sizes, most = here.abs() + reach_of(ground) / math.sqrt(max(len(here), 1)), 0.0
    try:
        for _ in range(LOOKS):
            signs = 2.0 * torch.randint(0, 2, (len(here),), generator=draw) - 1.0
            ground.put(here + 2 * eps * sizes * signs.to(here))
            if math.isfinite(each := ground.loss()):
                most = max(most, abs(each - loss))
    finally:
        ground.put(here)
    return 4 * most


def cancelled(ground: Ground) -> float:
    """How much of a curvature may be what rounding left of the terms of loss and gradient."""
    loss, gradient = ground.slope()
    size = max(length(ground.where().double()), 10 * reach_of(ground))
    eps = torch.finfo(gradient.dtype).eps
    return ULPS * eps * (length(gradient.double()) / size + abs(loss) / size**2)
