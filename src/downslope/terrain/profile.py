"""The loss along a straight line through a point, both ways: what a direction really leads to."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from downslope.terrain.ground import Ground
from downslope.terrain.hvp import length

STEPS = (0.0625, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0)
"""Lengths at which the loss is looked at, in the reach."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Profile:
    """The loss along a direction.

    Attributes:
        lengths: Signed, ascending, 0 among them.
        losses: There; NaN or infinite where the loss is.
        fall: How far the loss falls at most below that at 0; 0 where it falls nowhere.
        at: Signed length of the lowest.
    """

    lengths: tuple[float, ...]
    losses: tuple[float, ...]
    fall: float = field(init=False)
    at: float = field(init=False)

    def __post_init__(self) -> None:
        here = self.losses[self.lengths.index(0.0)]
        falls = [here - each if math.isfinite(each) else -math.inf for each in self.losses]
        best = max(range(len(falls)), key=falls.__getitem__)
        object.__setattr__(self, "fall", max(falls[best], 0.0))
        object.__setattr__(self, "at", self.lengths[best] if falls[best] > 0 else 0.0)


def profile(ground: Ground, direction: Tensor, reach: float, loss: float) -> Profile:
    """The loss of `ground` along `direction`, evaluated both ways up to four times `reach`; 14 evaluations.

    Args:
        ground: It is put back to where it stood, also where an evaluation fails.
        direction: Flat, any length but zero.
        reach: Unit of the lengths.
        loss: That at the point itself.
    """
    here, unit = ground.where(), (direction / length(direction)).to(ground.where())
    ahead = [step * reach for step in STEPS]
    lengths = [*(-each for each in reversed(ahead)), 0.0, *ahead]
    losses: list[float] = []
    try:
        for each in lengths:
            if each:
                ground.put(here + each * unit)
            losses.append(ground.loss() if each else loss)
    finally:
        ground.put(here)
    return Profile(lengths=tuple(lengths), losses=tuple(losses))


def around(ground: Ground, reach: float, loss: float, *, samples: int = 16, seed: int = 0) -> list[Profile]:
    """Profiles along directions drawn at random, for points at which no derivative tells."""
    draw = torch.Generator().manual_seed(seed)
    found: list[Profile] = []
    for _ in range(samples):
        direction = torch.randn(ground.size, generator=draw, dtype=torch.float64)
        found.append(profile(ground, direction.to(ground.params[0]), reach, loss))
    return found
