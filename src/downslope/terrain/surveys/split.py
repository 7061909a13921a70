"""Directions that go down, taken out of samples that go up.

Far out along a direction d, an entry of the gradient that has the other sign than that of d says that the
loss falls as this coordinate moves further out. So one gradient tells of every coordinate, and what falls
along a few of many is found where a random direction hardly touches it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from downslope.core.errors import DownslopeError
from downslope.terrain.ground import Ground
from downslope.terrain.hvp import length
from downslope.terrain.surveys.profile import NEAR, Profile, profile

SAMPLES = 4
"""Directions that are split, both ways."""


def split(
    ground: Ground, looked: list[tuple[Tensor, Profile]], reach: float, loss: float, *,
    inside: Tensor | None = None,
) -> list[tuple[Tensor, Profile]]:  # fmt: skip
    """Parts of directions along which the loss falls, with the loss along them.

    Args:
        ground: Where it stands; it is put back there.
        looked: Directions that were looked along.
        reach: Of the samples.
        loss: At the point itself.
        inside: Orthonormal rows of the subspace to stay in; by default all of space.
    """
    here, parts = ground.where(), list[Tensor]()
    try:
        for direction, _ in looked[:SAMPLES]:
            unit = (direction.double() / length(direction.double())).to(here)
            for sign in (1.0, -1.0):
                part = _part(ground, here, sign * unit, reach, inside)
                if part is not None and not any(torch.equal(part, each) for each in parts):
                    parts.append(part)
        parts = [each for each in parts if _falls(ground, here, each, reach, loss)]
    finally:
        ground.put(here)
    return [(each, profile(ground, each, reach, loss, far=NEAR)) for each in parts]


def _part(ground: Ground, here: Tensor, unit: Tensor, reach: float, inside: Tensor | None) -> Tensor | None:
    """The coordinates of a direction that go down, of length 1; None where all or none do."""
    ground.put(here + reach * unit)
    try:
        gradient = ground.slope()[1]
    except DownslopeError:
        return None
    down = gradient * unit < 0
    if not bool(down.any()) or bool(down.all()):
        return None
    part = torch.where(down, unit, 0.0)
    if inside is not None:
        rows = inside.to(part)
        part = (rows @ part) @ rows
    size = length(part.double())
    return part / size if size > 0 else None


def _falls(ground: Ground, here: Tensor, unit: Tensor, reach: float, loss: float) -> bool:
    ground.put(here + reach * unit)
    return ground.loss() < loss
