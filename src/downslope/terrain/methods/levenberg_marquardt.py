"""Levenberg and Marquardt's method: Gauss-Newton, damped as much as its model of the loss fails."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from downslope.core.errors import RecipeError
from downslope.terrain.ground import Ground
from downslope.terrain.hvp import length
from downslope.terrain.methods.line_search import Trial, dot, rounding
from downslope.terrain.methods.linearised import Linearised, model_of
from downslope.terrain.methods.method import Method, Step


class LevenbergMarquardt(Method):
    """``(G + mu D^2) p = -g``, with mu small where the linear model of the outputs predicts the loss.

    ::

        gain = (f(x) - f(x + p)) / (p^T (mu D^2 p - g) / 2)
        gain > 0:  x <- x + p,  mu <- mu max(1/3, 1 - (2 gain - 1)^3),  nu <- 2
        else:      mu <- mu nu,  nu <- min(2 nu, 10)

    and tries again until a step is taken. G is the Gauss-Newton matrix, ``J^T J`` of least squares, where the
    step comes from an orthogonal factorisation of ``[J; mu^1/2 D]``; of any other objective it is
    ``J^T H J``. Above 300 parameters it is solved by conjugate gradients. It ends where
    ``scipy.optimize.least_squares(method="lm")`` does on NIST's problems that are tested, but for MGH10 from
    its far start: along that valley it takes thousands of steps, which MINPACK's radius leaps over.

    Args:
        params: Parameters, or groups that differ in `weight_decay`.
        damping: First mu, in (0, inf): of D^2 where that is a diagonal, of the largest diagonal entry else.
        scaling: D^2, "more" the largest ``diag(G)`` so far, "marquardt" the one here, "identity" 1. Of a G
            that is not formed it is 1.
        solver: "auto", "dense" or "cg".
        max_cg: Products of one solution by conjugate gradients at most; as many as parameters if None.
        max_eval: Looks for a step at most, in [2, inf).
        weight_decay: Strength of an l2 term that the method sees, in [0, inf).

    Raises:
        RecipeError: a setting outside its domain.
        ModelError: at a step, a closure in place of a model's ground.

    Differs from Nielsen (1999): nu ends at Marquardt's factor of 10, as a few trials in a row on a network
    else leave a mu that many steps do not bring down again.

    Source: Levenberg 1944; Marquardt 1963; More 1978 (scaling); Nielsen 1999, IMM-REP-1999-05 (mu).
    """

    source = "Marquardt 1963; Nielsen 1999"

    def __init__(
        self,
        params: Iterable[Any],
        damping: float = 1e-3,
        scaling: str = "more",
        solver: str = "auto",
        max_cg: int | None = 100,
        max_eval: int = 30,
        weight_decay: float = 0.0,
    ) -> None:
        if not damping:
            raise RecipeError("damping=0: must lie in (0, inf), it is what rises and falls; 0.001 is usual")
        settings = {
            "damping": damping, "scaling": scaling, "solver": solver, "max_cg": max_cg, "max_eval": max_eval,
            "weight_decay": weight_decay,
        }  # fmt: skip
        super().__init__(params, settings)

    def move(self, ground: Ground) -> Step:
        """One step that lowers the loss, by as many trials as it takes."""
        model, own, memory = model_of(ground, "LevenbergMarquardt"), self.settings, self.memory
        here = self.begin(ground)
        if (none := self.flat_ground(here)) is not None:
            return none
        at = Linearised(model, here.gradient, solver=own["solver"], max_cg=own["max_cg"])
        scale = self._scale(at)
        if "damping" not in memory:
            diagonal = at.diagonal() if own["scaling"] == "identity" else None
            largest = 1.0 if diagonal is None else float(diagonal.max())
            memory |= {"damping": own["damping"] * largest, "growth": 2.0}
        looks, products, limit = 0, at.products, rounding(here.value, here.x.dtype)
        norm, predicted = length(here.gradient), math.inf
        for _ in range(own["max_eval"]):
            shift = memory["damping"] * scale
            found = at.solve(shift)
            products += found.products + (at.diagonal() is None)
            predicted = -dot(here.gradient, found.step) - 0.5 * at.bent(found.step)
            ground.put(here.x + found.step)
            value, gradient = ground.slope()
            looks += 1
            gain = self._gain(here.value - value, predicted, length(gradient) / norm if norm else 1.0, limit)
            if gain > 0:
                memory["damping"] *= max(1 / 3, 1 - (2 * min(gain, 1.0) - 1) ** 3)
                memory["growth"] = 2.0
                x = here.x + found.step
                trial = Trial(1.0, value, dot(gradient, found.step), x, gradient)
                return self.settle(
                    ground, here, trial, predicted=predicted, looks=looks, products=products, said=found.said
                )
            if length(found.step) <= torch.finfo(here.x.dtype).eps * length(here.x):
                break
            memory["damping"] *= memory["growth"]
            memory["growth"] = min(2.0 * memory["growth"], 10.0)
        ground.put(here.x)
        memory["growth"] = 2.0
        return self.settle(ground, here, None, predicted=predicted, looks=looks, products=products)

    def _scale(self, at: Linearised) -> Tensor:
        """D^2."""
        diagonal = at.diagonal()
        if diagonal is None or self.settings["scaling"] == "identity":
            return torch.ones_like(at.gradient)
        if self.settings["scaling"] == "more":
            diagonal = self.memory["scale"] = torch.maximum(diagonal, self.memory.get("scale", diagonal))
        largest = float(diagonal.max())
        flat = diagonal == 0  # of no effect on any output
        return torch.where(flat, largest or 1.0, diagonal)

    @staticmethod
    def _gain(won: float, predicted: float, shrunk: float, limit: float) -> float:
        """Of what was predicted, what came; where rounding hides it, by the gradient."""
        if predicted <= limit and abs(won) <= limit:
            return 1.0 - shrunk
        return won / predicted if math.isfinite(won) and predicted > 0 else -1.0
