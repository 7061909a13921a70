"""Gauss and Newton's method: the model taken as linear in its parameters, the objective as it is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from downslope.terrain.ground import Ground
from downslope.terrain.methods.line_search import dot, rounding
from downslope.terrain.methods.linearised import RIDGE, Linearised, model_of
from downslope.terrain.methods.method import Here, Method, Step

CUT, WHOLE = 1 / 8, 1 / 2
"""Shares of a step that the line search leaves: below the first the system is damped, from the second on
less."""

RAISED, LEAST = 10.0, 1e-8
"""Factor by which the damping rises and falls, and the share of the diagonal below which there is none."""


class GaussNewton(Method):
    """``p = p - t (G + a I)^-1 g``, ``G = J^T H J``: J of the outputs, H the objective's Hessian by them.

    G is never negative where the objective is convex in the output, so the direction goes down, at a minimum
    of small residuals as fast as Newton's. A squared error is solved by an orthogonal factorisation of
    ``H^1/2 J``, of a singular one the shortest step; any other objective by Cholesky, a singular G damped by
    a thousandth of its mean diagonal, and above 300 parameters by conjugate gradients to a residual of
    ``min(0.1, |g|^1/2) |g|``.

    Where the line search leaves less than an eighth of a step, the next system is damped by a thousandth of
    G's diagonal, and ten times more each time; ten times less after a step of which half is left.

    Args:
        params: Parameters, or groups that differ in `weight_decay`.
        lr: First t of the line search, in [0, inf).
        damping: a, in [0, inf).
        line_search: "armijo", "strong_wolfe", "more_thuente", or None: t is lr.
        solver: "auto", "dense" or "cg".
        max_cg: Products of one solution by conjugate gradients at most; as many as parameters if None.
        c1: Share of the promised decrease that a step has to keep, in (0, 1/2).
        weight_decay: Strength of an l2 term that the method sees, in [0, inf).

    Raises:
        RecipeError: a setting outside its domain.
        ModelError: at a step, a closure in place of a model's ground, or too many parameters for a dense
            solver.

    Source: Nocedal and Wright 2006, section 10.3; Schraudolph 2002 (other objectives).
    """

    source = "Gauss 1809; Schraudolph 2002"

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1.0,
        damping: float = 0.0,
        line_search: str | None = "armijo",
        solver: str = "auto",
        max_cg: int | None = 100,
        c1: float = 1e-4,
        weight_decay: float = 0.0,
    ) -> None:
        settings = {
            "lr": lr, "damping": damping, "line_search": line_search, "solver": solver, "max_cg": max_cg,
            "c1": c1, "weight_decay": weight_decay,
        }  # fmt: skip
        super().__init__(params, settings)

    def move(self, ground: Ground) -> Step:
        """One solution and one line search."""
        model, own = model_of(ground, "GaussNewton"), self.settings
        here = self.begin(ground)
        if (none := self.flat_ground(here)) is not None:
            return none
        at = Linearised(model, here.gradient, solver=own["solver"], max_cg=own["max_cg"])
        used = self.memory.get("ridge", 0.0)
        made = self._damped(ground, here, at, at.products)
        for ridge in (0.0, RIDGE):  # a step that is no end may be too long undamped, or too short damped
            promised = self.memory["promised"] > rounding(here.value, here.x.dtype)
            if not made.converged or ridge == used or not (used or promised):
                continue
            used = self.memory["ridge"] = ridge
            again = self._damped(ground, here, at, made.products)
            made = again._replace(evaluations=made.evaluations + again.evaluations - here.evaluations)
        return made

    def _damped(self, ground: Ground, here: Here, at: Linearised, products: int) -> Step:
        """One solution and one search along it; the damping follows how much of it was gone."""
        ridge = self.memory.get("ridge", 0.0)
        shift = torch.full_like(here.gradient, self.settings["damping"])
        if ridge:
            shift += ridge * at.scale()
        found = at.solve(shift, reach=self.memory.get("reach", 1.0))
        step, said = found.step, found.said
        if not dot(step, here.gradient) < 0:
            step, said = -here.gradient, "the system gave no descent: the gradient was followed"
        self.memory["promised"] = -0.5 * dot(step, here.gradient)
        products += found.products
        made, share = self.along(ground, here, step, products=products, said=said, flat=found.flat)
        if share < CUT and not found.flat:
            self.memory["ridge"] = max(RIDGE, RAISED * ridge)
        elif share >= WHOLE:
            self.memory["ridge"] = ridge / RAISED if ridge > LEAST else 0.0
        return made
