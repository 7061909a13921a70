"""The natural gradient: steepest descent in what a model predicts, not in how its parameters are written."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from torch import Tensor

from downslope.terrain.ground import Ground, ModelGround
from downslope.terrain.hvp import length
from downslope.terrain.methods.conjugate_gradients import conjugate_gradients
from downslope.terrain.methods.dense import check_size, dense, undamped
from downslope.terrain.methods.line_search import dot
from downslope.terrain.methods.linearised import SMALL, model_of
from downslope.terrain.methods.method import Here, Method, Step
from downslope.terrain.operators.curvature import Curvature
from downslope.terrain.operators.fisher import Fisher
from downslope.terrain.operators.operator import Operator


class NaturalGradient(Method):
    """``p = p - t (F + P + a I)^-1 g``, F the Fisher information matrix of the model's prediction.

    The direction of steepest descent where the length of a step is the change of the predicted distribution,
    ``KL = p^T F p / 2`` to second order: the same whatever the parameters are (a = 0), so that a linear
    change of the weights changes no output on the way. t is `lr`, and with a trust region as much less as
    keeps KL within `kl`: ``t = min(lr, (2 kl / p^T F p)^1/2)``. P is the Hessian of decay and penalties,
    which no prediction shows; 0 without them.

    Args:
        params: Parameters, or groups that differ in `weight_decay`.
        lr: Longest t, in [0, inf).
        damping: a, in [0, inf).
        kl: Bound of the change of the prediction, in nats an example, in (0, inf]; inf for none.
        fisher: "true", over targets that the model would draw, or "empirical", over those of the data, which
            is another matrix wherever the model does not fit (Kunstner et al. 2019), and is told.
        solver: "auto" (dense up to 300 parameters), "dense" or "cg".
        max_cg: Products of one solution by conjugate gradients at most; as many as parameters if None.
        tol: Residual of conjugate gradients, relative to the gradient, in (0, 1).
        weight_decay: Strength of an l2 term in the function that the method goes down on, in [0, inf).

    Raises:
        RecipeError: a setting outside its domain.
        ModelError: at a step, a closure in place of a model's ground, or too many parameters for a dense
            solver.
        ObjectiveError: at a step, an objective that is no likelihood, with ``fisher="true"``.

    Source: Amari 1998, Natural gradient works efficiently in learning; Martens 2020, sections 5 and 6.
    """

    source = "Amari 1998"

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1.0,
        damping: float = 1e-3,
        kl: float = 1e-2,
        fisher: str = "true",
        solver: str = "auto",
        max_cg: int | None = 100,
        tol: float = 1e-3,
        weight_decay: float = 0.0,
    ) -> None:
        settings = {
            "lr": lr, "damping": damping, "kl": kl, "fisher": fisher, "solver": solver, "max_cg": max_cg,
            "tol": tol, "weight_decay": weight_decay,
        }  # fmt: skip
        super().__init__(params, settings)

    def move(self, ground: Ground) -> Step:
        """One solution, and one step of a length that was given or is bounded."""
        model, own = model_of(ground, "NaturalGradient"), self.settings
        here = self.begin(ground)
        if (none := self.flat_ground(here)) is not None:
            return none
        fisher = model.fisher("empirical" if own["fisher"] == "empirical" else "true")
        step, products, said = self._direction(Metric(fisher, model), here)
        if not dot(step, here.gradient) < 0:
            step, said = -here.gradient, "the system gave no descent: the gradient was followed"
        t = own["lr"]
        if own["kl"] < math.inf:
            bent = dot(step, fisher.product(step))
            products += 1
            t = min(t, math.sqrt(2 * own["kl"] / bent)) if bent > 0 else t
        if own["fisher"] == "empirical" and self.evaluations == 0:
            said = "the empirical Fisher is that of the labels, not of what the model predicts"
        ground.put(here.x + t * step)
        return Step(here.value, here.evaluations, products, said=said)

    def _direction(self, metric: Operator, here: Here) -> tuple[Tensor, int, str]:
        """``-(F + P + a I)^-1 g``, products spent, and what was met."""
        own, size = self.settings, metric.size
        if own["solver"] == "dense" or (own["solver"] == "auto" and size <= SMALL):
            check_size("natural_gradient", size, "solver='cg'")
            return undamped(dense(metric), here.gradient, own["damping"]).step, size, ""
        solved = conjugate_gradients(
            lambda v: metric.product(v) + own["damping"] * v,
            here.gradient,
            tol=own["tol"] * length(here.gradient),
            max_cg=own["max_cg"],
            start=self.memory.get("start"),
        )
        self.memory["start"] = solved.step
        fine = solved.ended in ("solved", "steps")
        said = "" if fine else f"conjugate gradients ended early ({solved.ended})"
        return solved.step, solved.products, said


class Metric:
    """``F + P``, P the Hessian of what hangs on the weights alone: decay, and the objective's penalties.

    A step that takes the Fisher matrix alone is as long as the prediction allows, whatever the penalties are,
    and goes past where they hold the weights.

    Args:
        fisher: Of the prediction.
        ground: Whose objective has the penalties.
    """

    def __init__(self, fisher: Curvature, ground: ModelGround) -> None:
        self.size, self.params, self._fisher, self._decay = fisher.size, fisher.params, fisher, ground.decay
        self._penalties: list[tuple[Operator, float]] = []
        if hasattr(ground.objective.function, "penalties"):
            parts = [(each.outputs.direct(), w) for each, w in fisher.terms() if isinstance(each, Fisher)]
            self._penalties = [(each, weight) for each, weight in parts if each is not None]

    @property
    def exact(self) -> bool:
        """Whether products of the Fisher matrix are."""
        return self._fisher.exact

    def product(self, vector: Tensor) -> Tensor:
        """``(F + P) v``, shape (size,)."""
        found = self._fisher.product(vector)
        if self._decay is not None:
            found = found + self._decay * vector
        for penalty, weight in self._penalties:
            found = found + weight * penalty.product(vector)
        return found
