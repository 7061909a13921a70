"""Newton's method, damped where the curvature is not positive, with a line search."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from downslope.terrain.ground import Ground
from downslope.terrain.methods.dense import check_size, dense, descent, undamped
from downslope.terrain.methods.escape import converged, leave, saddle
from downslope.terrain.methods.method import Here, Method, Step


class Newton(Method):
    """``p = p - t (H + a I)^-1 g``: one step on a quadratic, digits doubled at each step near a minimum.

    H is formed, by one product a parameter, and factorised by Cholesky: O(n^2) memory, n up to 5,000. Where
    it is not positive definite, `a` is raised until it is (twice the most negative eigenvalue), so that the
    direction goes down; t is 1 where that falls enough. Where H has no curvature along g the gradient is
    followed, four times as far as the last time if that fell. With ``line_search=None`` the step is taken as
    it is, and `a` is `damping` and no more: that is Newton's plain method, which goes to a saddle as gladly
    as to a minimum, as it divides by negative curvature (Dauphin et al. 2014).

    Args:
        params: Parameters, or groups that differ in `weight_decay`.
        lr: First t of the line search, in [0, inf).
        damping: Least `a`, in [0, inf).
        line_search: "armijo", "strong_wolfe", "more_thuente", or None.
        c1: Share of the promised decrease that a step has to keep, in (0, 1/2).
        weight_decay: Strength of an l2 term that the method sees, in [0, inf).

    Raises:
        RecipeError: a setting outside its domain.
        ModelError: at a step, for too many parameters.

    Source: Nocedal and Wright 2006, algorithm 3.2 and section 3.4.
    """

    source = "Nocedal and Wright 2006, algorithm 3.2"
    leaves = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1.0,
        damping: float = 0.0,
        line_search: str | None = "armijo",
        c1: float = 1e-4,
        weight_decay: float = 0.0,
    ) -> None:
        settings = {"lr": lr, "damping": damping, "line_search": line_search, "c1": c1}
        super().__init__(params, settings | {"weight_decay": weight_decay})

    def move(self, ground: Ground) -> Step:
        """Form, factorise, search; leave a saddle."""
        check_size("newton", ground.size, "newton_cg or lbfgs")
        here = self.begin(ground)
        step = self.flat_ground(here) or self._searched(ground, here)
        if not converged(step):
            return step
        plain = self.settings["line_search"] is None
        return saddle(ground, step, self.steepest) if plain else leave(ground, here, step, self.steepest)

    def _searched(self, ground: Ground, here: Here) -> Step:
        own, matrix = self.settings, dense(ground.hessian())
        if own["line_search"] is None:
            found = undamped(matrix, here.gradient, own["damping"])
        else:
            found = descent(matrix, here.gradient, own["damping"], self.memory.get("reach", 1.0))
        said = found.said("the Hessian")
        return self.along(ground, here, found.step, products=ground.size, said=said, flat=found.flat)[0]
