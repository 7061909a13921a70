"""Sets in which parameters have to stay: ``"non_negative"``, ``box(0, 1) & l2_ball(2)``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from downslope.core.faces import lazily

if TYPE_CHECKING:
    from downslope.constraints.ball import L2Ball, MaxNorm, l2_ball, max_norm
    from downslope.constraints.box import Box, box, non_negative
    from downslope.constraints.combined import Intersection, Union
    from downslope.constraints.constraint import Constraint
    from downslope.constraints.orthogonal import Orthogonal, orthogonal
    from downslope.constraints.simplex import Simplex, simplex
    from downslope.constraints.spelt import read

__all__ = [
    "Box",
    "Constraint",
    "Intersection",
    "L2Ball",
    "MaxNorm",
    "Orthogonal",
    "Simplex",
    "Union",
    "box",
    "l2_ball",
    "max_norm",
    "non_negative",
    "orthogonal",
    "read",
    "simplex",
]

lazily(
    __name__,
    {
        "ball": "L2Ball MaxNorm l2_ball max_norm",
        "box": "Box box non_negative",
        "combined": "Intersection Union",
        "constraint": "Constraint",
        "orthogonal": "Orthogonal orthogonal",
        "simplex": "Simplex simplex",
        "spelt": "read",
    },
)
