"""The ground: a loss as a function of a model's trained parameters, on fixed examples."""

from __future__ import annotations

from downslope.terrain.ground.ground import Ground, ModelGround, Piece
from downslope.terrain.ground.point import ground_of

__all__ = ["Ground", "ModelGround", "Piece", "ground_of"]
