"""Curvature as matrix-free linear operators on flat vectors of parameters."""

from __future__ import annotations

from downslope.terrain.operators.fisher import Fisher
from downslope.terrain.operators.gauss_newton import GaussNewton
from downslope.terrain.operators.operator import Diagonal, Operator, Weighted

__all__ = ["Diagonal", "Fisher", "GaussNewton", "Operator", "Weighted"]
