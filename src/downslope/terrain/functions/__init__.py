"""Classic functions with exact critical points, to draw, to descend on and to test against."""

from __future__ import annotations

from typing import TYPE_CHECKING

from downslope.core.faces import lazily

if TYPE_CHECKING:
    from downslope.terrain.functions.function import CriticalPoint, Function
    from downslope.terrain.functions.hills import himmelblau, rastrigin, styblinski_tang
    from downslope.terrain.functions.line import absolute, cubic, exponential, flat_bottom, tanh, x_cos_pi_x
    from downslope.terrain.functions.named import get, names
    from downslope.terrain.functions.saddles import double_well, monkey_saddle, saddle
    from downslope.terrain.functions.valleys import beale, booth, bowl, cliff, matyas, rosenbrock

__all__ = [
    "CriticalPoint",
    "Function",
    "absolute",
    "beale",
    "booth",
    "bowl",
    "cliff",
    "cubic",
    "double_well",
    "exponential",
    "flat_bottom",
    "get",
    "himmelblau",
    "matyas",
    "monkey_saddle",
    "names",
    "rastrigin",
    "rosenbrock",
    "saddle",
    "styblinski_tang",
    "tanh",
    "x_cos_pi_x",
]

lazily(
    __name__,
    {
        "function": "CriticalPoint Function",
        "hills": "himmelblau rastrigin styblinski_tang",
        "line": "absolute cubic exponential flat_bottom tanh x_cos_pi_x",
        "named": "get names",
        "saddles": "double_well monkey_saddle saddle",
        "valleys": "beale booth bowl cliff matyas rosenbrock",
    },
)
