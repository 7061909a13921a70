"""A site: a point to start around, the ground there as a mean over examples, and a region to leave."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

Loss = Callable[[Tensor, Tensor | None], Tensor]
"""``loss(points, rows)``: points of shape (members, size), the examples of each (members, batch) or None for
all of them; the loss of each member, shape (members,)."""

Inside = Callable[[Tensor], Tensor]
"""``inside(points)``: whether each member, shape (members, size), is still there."""


@dataclass(frozen=True)
class Site:
    """Where members start, and what they walk on.

    Attributes:
        name: What it is called.
        point: The critical point, shape (size,), float64.
        loss: Of points and examples.
        examples: Of the finite sum.
        inside: Whether a point has not left yet.
        region: In words: "within 1 of it".
        domain: Ends of each coordinate that are worth a picture; None where nobody said.
    """

    name: str
    point: Tensor
    loss: Loss
    examples: int
    inside: Inside
    region: str
    domain: tuple[tuple[float, float], ...] | None = None

    def whole(self, points: Tensor) -> Tensor:
        """The loss over all examples; shape (members,)."""
        return self.loss(points, None)


def ball(point: Tensor, radius: float) -> Inside:
    """The points nearer than `radius` to `point`."""
    return lambda points: (points - point).square().sum(1) < radius**2
