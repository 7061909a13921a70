"""How long a move is that counts: the unit in which slope and curvature are reckoned."""

from __future__ import annotations

import math

from downslope.terrain.ground import Ground
from downslope.terrain.hvp import length
from downslope.terrain.surveys.kind import REACH


def reach_of(ground: Ground) -> float:
    """A tenth of the weights' size, or of that of rows of length 1 where they are smaller.

    Args:
        ground: Where the weights stand.
    """
    rows = sum(p.shape[0] for p in ground.params if p.ndim > 1)
    return REACH * max(length(ground.where().double()), math.sqrt(rows or ground.size))
