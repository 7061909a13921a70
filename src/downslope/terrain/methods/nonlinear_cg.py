"""Conjugate gradients of a function that is no quadratic, in five classical formulas."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from downslope.terrain.ground import Ground
from downslope.terrain.hvp import length
from downslope.terrain.methods.line_search import dot
from downslope.terrain.methods.method import Here, Method, Step
from downslope.terrain.methods.search import seek


class NonlinearCG(Method):
    """``d = -g + beta d``, a line search along d; three vectors of memory, no products.

    ::

        fletcher_reeves    g'.g' / g.g                  hestenes_stiefel   y.g' / y.d
        polak_ribiere      max(0, y.g' / g.g)           dai_yuan           g'.g' / y.d
        hager_zhang        (y - 2 d |y|^2 / y.d).g' / y.d,  y = g' - g

    Begun anew from -g where d is no descent, after `restart` steps, and with Fletcher-Reeves and Dai-Yuan
    where two gradients in a row are far from orthogonal (``|g'.g| >= |g'|^2 / 5``, Powell 1977), which is
    where those two jam. The first t is the one that lowers the loss by what the last step did. Equivalent to
    ``scipy.optimize.minimize(method="CG")`` in its default formula.

    Args:
        params: Parameters, or groups that differ in `weight_decay`.
        lr: First t of the first search in units of ``1 / |g|``, and largest first t of the others.
        formula: One of the above.
        restart: Steps from one start to the next, in [1, inf); None for no fixed number.
        line_search: "more_thuente" or "strong_wolfe"; "armijo" keeps no angle between d and g.
        c1: Of Armijo's condition, in (0, 1/2).
        c2: Of Wolfe's, in (0, 1): below 1/2, or Fletcher-Reeves may climb.
        max_eval: Looks of one search at most, in [2, inf).
        weight_decay: Strength of an l2 term that the method sees, in [0, inf).

    Raises:
        RecipeError: a setting outside its domain.

    Source: Nocedal and Wright 2006, section 5.2; Hager and Zhang 2005, SIAM Journal on Optimization 16.
    """

    source = "Nocedal and Wright 2006, section 5.2"

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1.0,
        formula: str = "polak_ribiere",
        restart: int | None = None,
        line_search: str | None = "more_thuente",
        c1: float = 1e-4,
        c2: float = 0.4,
        max_eval: int = 40,
        weight_decay: float = 0.0,
    ) -> None:
        settings = {
            "lr": lr, "formula": formula, "restart": restart, "line_search": line_search, "c1": c1, "c2": c2,
            "max_eval": max_eval, "weight_decay": weight_decay,
        }  # fmt: skip
        super().__init__(params, settings)

    def move(self, ground: Ground) -> Step:
        """Search along the direction, and make the next."""
        here, own, memory = self.begin(ground), self.settings, self.memory
        if (none := self.flat_ground(here)) is not None:
            return none
        shift = memory.get("shift")
        direction = -here.gradient if shift is None else -here.gradient + shift
        said = ""
        if not dot(direction, here.gradient) < 0:
            said, direction, memory["since"] = "begun anew: the direction was no descent", -here.gradient, 0
        first = own["lr"] * self._first(here, direction)
        line, trial, looks, anew = seek(
            ground, here, direction, own, first, anew=shift is not None, xtol=1e-14
        )
        if anew:
            said, memory["since"] = "begun anew: the line search failed", 0
        won = trial.t if trial else self._first(here, line.direction)
        predicted = -0.5 * line.start.slope * won
        memory["shift"], memory["before"] = None, here.value
        if trial is not None:
            memory["shift"] = self._shift(here.gradient, trial.gradient, line.direction)
        return self.settle(ground, here, trial, predicted=predicted, looks=looks, said=said, line=line)

    def _first(self, here: Here, direction: Tensor) -> float:
        """``min(1, 2.02 (f - f_before) / slope)`` (Nocedal and Wright 2006, equation 3.60)."""
        before = self.memory.get("before", here.value + 0.5 * length(here.gradient))
        t = 2.02 * (here.value - before) / dot(direction, here.gradient)
        return min(1.0, t) if t > 0 else 1.0

    def _shift(self, g: Tensor, new: Tensor, d: Tensor) -> Tensor | None:
        """What is added to the next negative gradient; None where it begins anew."""
        own, memory = self.settings, self.memory
        memory["since"] = memory.get("since", 0) + 1
        far = own["formula"] in ("fletcher_reeves", "dai_yuan") and abs(dot(new, g)) >= 0.2 * dot(new, new)
        if far or (own["restart"] is not None and memory["since"] >= own["restart"]):
            memory["since"] = 0
            return None
        beta = beta_of(own["formula"], g, new, d)
        return beta * d if math.isfinite(beta) and beta else None


def beta_of(formula: str, g: Tensor, new: Tensor, d: Tensor) -> float:
    """The share of the last direction in the next.

    Args:
        formula: Its name.
        g: Gradient where the last search began.
        new: Gradient where it ended.
        d: Its direction.
    """
    y = new - g
    if formula == "fletcher_reeves":
        return dot(new, new) / dot(g, g)
    if formula == "polak_ribiere":
        return max(0.0, dot(y, new) / dot(g, g))
    along = dot(y, d)
    if not along:
        return 0.0
    if formula == "hestenes_stiefel":
        return max(0.0, dot(y, new) / along)
    if formula == "dai_yuan":
        return dot(new, new) / along
    beta = (dot(y, new) - 2 * dot(y, y) * dot(d, new) / along) / along
    least = -1.0 / (length(d) * min(0.01, length(g)) + torch.finfo(g.dtype).tiny)
    return max(beta, least)
