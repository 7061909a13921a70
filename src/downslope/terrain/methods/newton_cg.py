"""Newton's method by truncated conjugate gradients and a line search: products only, no matrix."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from downslope.terrain.ground import Ground
from downslope.terrain.hvp import length
from downslope.terrain.methods.conjugate_gradients import Solved, conjugate_gradients
from downslope.terrain.methods.escape import converged, leave
from downslope.terrain.methods.line_search import dot
from downslope.terrain.methods.method import Here, Method, Step


class NewtonCG(Method):
    """``p = p + t d``, ``H d = -g`` solved to ``min(1/2, sqrt|g|) |g|``, more exactly the nearer the minimum.

    Conjugate gradients stop where they meet a direction of negative curvature: then d is what they had before
    it, or at the first one that direction itself, with its length from its own curvature; the line search may
    go further. At a point without slope the most negative eigenvector is followed, so saddles are left.

    Args:
        params: Parameters, or groups that differ in `weight_decay`.
        lr: First t of the line search, in [0, inf).
        max_cg: Products of one solution, in [1, inf); None for as many as there are parameters.
        line_search: "strong_wolfe", "more_thuente", "armijo", or None.
        c1: Of Armijo's condition, in (0, 1/2).
        c2: Of Wolfe's, in (0, 1).
        max_eval: Looks of one search at most, in [2, inf).
        weight_decay: Strength of an l2 term that the method sees, in [0, inf).

    Raises:
        RecipeError: a setting outside its domain.

    Source: Nocedal and Wright 2006, algorithm 7.1; Dembo and Steihaug 1983, Mathematical Programming 26.
    """

    source = "Nocedal and Wright 2006, algorithm 7.1"
    leaves = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1.0,
        max_cg: int | None = None,
        line_search: str | None = "strong_wolfe",
        c1: float = 1e-4,
        c2: float = 0.9,
        max_eval: int = 25,
        weight_decay: float = 0.0,
    ) -> None:
        settings = {
            "lr": lr, "max_cg": max_cg, "line_search": line_search, "c1": c1, "c2": c2, "max_eval": max_eval,
        }  # fmt: skip
        super().__init__(params, settings | {"weight_decay": weight_decay})

    def move(self, ground: Ground) -> Step:
        """Solve, search, and leave a saddle."""
        here = self.begin(ground)
        step = self.flat_ground(here) or self._searched(ground, here)
        return leave(ground, here, step, self.steepest) if converged(step) else step

    def _searched(self, ground: Ground, here: Here) -> Step:
        own, norm = self.settings, length(here.gradient)
        operator = ground.hessian()
        solved = conjugate_gradients(
            operator.product, here.gradient, tol=min(0.5, math.sqrt(norm)) * norm, max_cg=own["max_cg"]
        )
        products, direction, said = solved.products, solved.step, ""
        if solved.ended == "negative":
            said = "negative curvature"
            if not bool(direction.any()):
                direction, products = _along(solved, operator.product, here), products + 1
        if solved.ended == "non-finite" or not dot(direction, here.gradient) < 0:
            said, direction = "the products gave no descent: the gradient was followed", -here.gradient
        return self.along(ground, here, direction, products=products, said=said)[0]


def _along(solved: Solved, product: Any, here: Here) -> Any:
    """The direction of negative curvature, as long as a Newton step along it with its curvature turned."""
    side = here.gradient if solved.direction is None else solved.direction
    bend = abs(dot(side, product(side)))
    return side * (abs(dot(side, here.gradient)) / bend) if bend else side
