"""Curvature as matrix-free linear operators on flat vectors of parameters."""

from __future__ import annotations

from downslope.terrain.operators.operator import Operator, Weighted

__all__ = ["Operator", "Weighted"]
