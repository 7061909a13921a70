"""Gauss and Newton's method: the model taken as linear in its parameters, the objective as it is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from downslope.terrain.ground import Ground
from downslope.terrain.methods.line_search import dot
from downslope.terrain.methods.linearised import Linearised, model_of
from downslope.terrain.methods.method import Method, Step


class GaussNewton(Method):
    """``p = p - t (G + a I)^-1 g``, ``G = J^T H J``: J of the outputs, H the objective's Hessian by them.

    G is never negative where the objective is convex in the output, so the direction goes down, at a minimum
    of small residuals as fast as Newton's. A squared error is solved by an orthogonal factorisation of
    ``H^1/2 J``, of a singular one the shortest step; any other objective by Cholesky, a singular G damped by
    a thousandth of its mean diagonal, and above 300 parameters by conjugate gradients to a residual of
    ``min(0.1, |g|^1/2) |g|``.

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
        shift = torch.full_like(here.gradient, own["damping"])
        found = at.solve(shift, reach=self.memory.get("reach", 1.0))
        step, said = found.step, found.said
        if not dot(step, here.gradient) < 0:
            step, said = -here.gradient, "the system gave no descent: the gradient was followed"
        products = at.products + found.products
        return self.along(ground, here, step, products=products, said=said, flat=found.flat)[0]
