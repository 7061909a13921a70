"""The ground: a loss as a function of a model's trained parameters, on fixed examples."""

from __future__ import annotations

from typing import TYPE_CHECKING

from downslope.core.faces import lazily

if TYPE_CHECKING:
    from downslope.terrain.ground.ground import Ground, ModelGround, Piece
    from downslope.terrain.ground.point import ground_of

__all__ = ["Ground", "ModelGround", "Piece", "ground_of"]

lazily(
    __name__,
    {
        "ground": "Ground ModelGround Piece",
        "point": "ground_of",
    },
)
