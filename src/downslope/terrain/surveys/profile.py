"""The loss along a straight line through a point, both ways: what a direction really leads to."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from downslope.terrain.ground import Ground
from downslope.terrain.hvp import length

STEPS = (0.0625, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0)
"""Lengths at which the loss is looked at, in the reach."""

NEAR = 1.0
"""How far samples around a point go, in the reach: what lies beyond is no neighbourhood."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Profile:
    """The loss along a direction.

    Attributes:
        lengths: Signed, ascending, 0 among them.
        losses: There; NaN or infinite where the loss is.
    """

    lengths: tuple[float, ...]
    losses: tuple[float, ...]

    @property
    def here(self) -> float:
        """The loss at length 0."""
        return self.losses[self.lengths.index(0.0)]

    @property
    def at(self) -> float:
        """Signed length of the lowest loss; 0 where it falls nowhere."""
        pairs = zip(self.losses, self.lengths, strict=True)
        kept = [(loss, -length) for loss, length in pairs if math.isfinite(loss)]
        least, back = min(kept, default=(self.here, 0.0))
        return -back if least < self.here else 0.0

    @property
    def fall(self) -> float:
        """How far the loss falls at most below that at 0; 0 where it falls nowhere."""
        return self.here - self.losses[self.lengths.index(self.at)]

    @property
    def rise(self) -> float:
        """How far it rises at most."""
        return max(0.0, *(each - self.here for each in self.losses if math.isfinite(each)))

    @property
    def gone(self) -> float:
        """Share of the moves at which the loss is not finite."""
        return sum(not math.isfinite(each) for each in self.losses) / max(len(self.losses) - 1, 1)

    def reversed(self) -> Profile:
        """The same seen from the other side."""
        return Profile(lengths=tuple(-each for each in self.lengths[::-1]), losses=self.losses[::-1])

    def negated(self) -> Profile:
        """The same of the loss with another sign."""
        return Profile(lengths=self.lengths, losses=tuple(-each for each in self.losses))


def profile(
    ground: Ground, direction: Tensor, reach: float, loss: float, *, far: float = STEPS[-1]
) -> Profile:
    """The loss of `ground` along `direction`, evaluated both ways up to four times `reach`.

    Args:
        ground: It is put back to where it stood, also where an evaluation fails.
        direction: Flat, any length but zero.
        reach: Unit of the lengths.
        loss: That at the point itself.
        far: Longest move, in the reach.
    """
    here = ground.where()
    unit = (direction.double() / length(direction.double())).to(here)
    ahead = [step * reach for step in STEPS if step <= far]
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


def around(
    ground: Ground, reach: float, loss: float, *, inside: Tensor | None = None, samples: int = 8,
    seed: int = 0,
) -> list[tuple[Tensor, Profile]]:  # fmt: skip
    """Directions drawn at random and profiles within the reach, for points at which no derivative tells.

    Args:
        ground: Where it stands; it is put back there.
        reach: Longest move.
        loss: That at the point itself.
        inside: Orthonormal rows of the subspace to look in; by default all of space.
        samples: Directions.
        seed: Of them.
    """
    draw = torch.Generator().manual_seed(seed)
    found: list[tuple[Tensor, Profile]] = []
    for _ in range(samples):
        size = ground.size if inside is None else len(inside)
        direction = torch.randn(size, generator=draw, dtype=torch.float64).to(ground.params[0].device)
        if inside is not None:
            direction = direction @ inside.to(direction)
        found.append((direction, profile(ground, direction, reach, loss, far=NEAR)))
    return found
