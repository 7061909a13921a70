"""Curvature as matrix-free linear operators on flat vectors of parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from downslope.core.faces import lazily

if TYPE_CHECKING:
    from downslope.terrain.operators.blocks import BlockDiagonal
    from downslope.terrain.operators.curvature import Curvature
    from downslope.terrain.operators.fisher import Fisher
    from downslope.terrain.operators.gauss_newton import GaussNewton
    from downslope.terrain.operators.operator import Operator, Weighted
    from downslope.terrain.operators.views import as_linear_operator, dense

__all__ = [
    "BlockDiagonal",
    "Curvature",
    "Fisher",
    "GaussNewton",
    "Operator",
    "Weighted",
    "as_linear_operator",
    "dense",
]

lazily(
    __name__,
    {
        "blocks": "BlockDiagonal",
        "curvature": "Curvature",
        "fisher": "Fisher",
        "gauss_newton": "GaussNewton",
        "operator": "Operator Weighted",
        "views": "as_linear_operator dense",
    },
)
