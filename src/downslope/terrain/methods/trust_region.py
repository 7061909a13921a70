"""Newton's method inside a trust region, by conjugate gradients."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from downslope.terrain.ground import Ground
from downslope.terrain.hvp import length
from downslope.terrain.methods.conjugate_gradients import Solved, conjugate_gradients
from downslope.terrain.methods.escape import converged, leave
from downslope.terrain.methods.line_search import Trial, dot, rounding, unlike
from downslope.terrain.methods.method import Here, Method, Step

TRIES, PATIENT = 25, 5
"""Radii that one step tries, each a quarter of the last; and after how many the loss should do as the model
says: where its change is of another order, it is rounding."""


class TrustRegion(Method):
    """The step that lowers the quadratic model within a radius, kept where the model was right.

    ::

        p = argmin g.p + p.Hp / 2,  |p| <= radius          by conjugate gradients (Steihaug, Toint)
        rho = (f(x) - f(x + p)) / (what the model promised)

    The radius is cut to a quarter for ``rho < 1/4``, doubled for ``rho > 3/4`` where the step reached it; the
    step counts for ``rho > eta``. Negative curvature is followed to the radius, so saddles are left; at a
    point without slope the most negative eigenvector is. Needs products only. Equivalent to
    ``scipy.optimize.minimize(method="trust-ncg")``, but for trials that are refused, which belong to the same
    step here.

    Args:
        params: Parameters, or groups that differ in `weight_decay`.
        radius: At first, in (0, inf).
        max_radius: Largest, in (0, inf).
        eta: Least rho accepted, in [0, 1/4).
        max_cg: Products of one solution, in [1, inf); None for as many as there are parameters.
        weight_decay: Strength of an l2 term that the method sees, in [0, inf).

    Raises:
        RecipeError: a setting outside its domain.

    Source: Nocedal and Wright 2006, algorithms 4.1 and 7.2.
    """

    source = "Nocedal and Wright 2006, algorithms 4.1 and 7.2"
    leaves = True

    def __init__(
        self,
        params: Iterable[Any],
        radius: float = 1.0,
        max_radius: float = 1000.0,
        eta: float = 0.15,
        max_cg: int | None = None,
        weight_decay: float = 0.0,
    ) -> None:
        settings = {"radius": radius, "max_radius": max_radius, "eta": eta, "max_cg": max_cg}
        super().__init__(params, settings | {"weight_decay": weight_decay})

    def move(self, ground: Ground) -> Step:
        """Solve inside the radius, until a step is kept."""
        here = self.begin(ground)
        step = self.flat_ground(here) or self._tried(ground, here)
        return leave(ground, here, step, self.steepest) if converged(step) else step

    def _tried(self, ground: Ground, here: Here) -> Step:
        operator, norm = ground.hessian(), length(here.gradient)
        looks = products = 0
        trial, solved, said = None, None, ""
        drowned = False
        for count in range(TRIES):
            radius = self.memory.setdefault("radius", self.settings["radius"])
            solved = conjugate_gradients(
                operator.product, here.gradient, tol=min(0.5, math.sqrt(norm)) * norm,
                max_cg=self.settings["max_cg"], radius=radius,
            )  # fmt: skip
            products += solved.products
            said = "negative curvature" if solved.ended == "negative" else ""
            if solved.ended == "non-finite":
                said = "the curvature is not finite"
                break
            tried = _at(ground, here, solved)
            looks += 1
            if self._judged(here, solved, tried):
                trial = tried
                break
            ground.put(here.x)  # the graph of the products is that of this point
            off = unlike(here.value - tried.value, solved.decrease)
            drowned = solved.decrease <= rounding(here.value, here.x.dtype) or (count >= PATIENT and off)
            if drowned:
                break
        predicted = 0.0 if drowned else math.inf
        return self.settle(
            ground, here, trial, predicted=predicted, looks=looks, products=products, said=said
        )

    def _judged(self, here: Here, solved: Solved, tried: Trial) -> bool:
        """Whether the step is kept; the radius follows."""
        own, memory = self.settings, self.memory
        limit = rounding(here.value, here.x.dtype)
        if solved.decrease <= limit and tried.finite and abs(tried.value - here.value) <= limit:
            return length(tried.gradient) < length(here.gradient)
        rho = (here.value - tried.value) / solved.decrease if tried.finite else -math.inf
        if rho < 0.25:
            memory["radius"] *= 0.25
        elif rho > 0.75 and solved.ended in ("negative", "boundary"):
            memory["radius"] = min(2 * memory["radius"], own["max_radius"])
        return rho > own["eta"]


def _at(ground: Ground, here: Here, solved: Solved) -> Trial:
    x = here.x + solved.step
    ground.put(x)
    value, gradient = ground.slope()
    return Trial(1.0, value, dot(gradient, solved.step), x, gradient)
