"""L-BFGS: the inverse Hessian from the last few steps and changes of the gradient."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from downslope.terrain.ground import Ground
from downslope.terrain.hvp import length
from downslope.terrain.methods.line_search import Trial, dot
from downslope.terrain.methods.method import Here, Method, Step
from downslope.terrain.methods.search import seek


class LBFGS(Method):
    """``p = p - t H g``, H the inverse Hessian that the last steps s and changes y of the gradient tell.

    ::

        rho_i = 1 / y_i.s_i,  gamma = s_k.y_k / y_k.y_k
        H_i+1 = (I - rho_i s_i y_i^T) H_i (I - rho_i y_i s_i^T) + rho_i s_i s_i^T,   from H = gamma I

    by the two-loop recursion: 2 m n numbers, no products. A pair of no positive curvature is left out, or
    bent towards the model's own (`update`). Each step is one line search; both gradients of a pair are of the
    same batch. Equivalent to ``scipy.optimize.minimize(method="L-BFGS-B")`` without bounds: the same first
    step, search and rule of omission.

    Args:
        params: Parameters, or groups that differ in `weight_decay`.
        lr: First t of each line search, in [0, inf); the first step of all tries ``lr / |g|``.
        history_size: Pairs that are kept, m, in [1, inf).
        line_search: "more_thuente", "strong_wolfe" (zoom), "armijo", or None: t is lr.
        c1: Of Armijo's condition, in (0, 1/2).
        c2: Of Wolfe's, in (0, 1).
        max_eval: Looks of one search at most, in [2, inf).
        update: "skip" leaves a pair with too small ``s.y`` out, "powell" damps it (Powell 1978).
        weight_decay: Strength of an l2 term that the method sees, in [0, inf).

    Raises:
        RecipeError: a setting outside its domain.

    Differs from `torch.optim.LBFGS`: one iteration a step, the curvature of the pair is checked relative to
    the gradient, the search is safeguarded against points that are not finite.

    Source: Liu and Nocedal 1989, Mathematical Programming 45; Nocedal and Wright 2006, algorithms 7.4, 7.5.
    """

    source = "Liu and Nocedal 1989"

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1.0,
        history_size: int = 10,
        line_search: str | None = "more_thuente",
        c1: float = 1e-3,
        c2: float = 0.9,
        max_eval: int = 20,
        update: str = "skip",
        weight_decay: float = 0.0,
    ) -> None:
        settings = {
            "lr": lr, "history_size": history_size, "line_search": line_search, "c1": c1, "c2": c2,
            "max_eval": max_eval, "update": update, "weight_decay": weight_decay,
        }  # fmt: skip
        super().__init__(params, settings)

    def move(self, ground: Ground) -> Step:
        """One line search along ``-H g``."""
        here, own = self.begin(ground), self.settings
        if (none := self.flat_ground(here)) is not None:
            return none
        steps: list[Tensor] = self.memory.setdefault("steps", [])
        changes: list[Tensor] = self.memory.setdefault("changes", [])
        direction = -two_loop(here.gradient, steps, changes)
        said = ""
        if steps and not dot(direction, here.gradient) < 0:
            said = "the pairs gave no descent: they were dropped"
            self._drop()
            direction = -here.gradient
        first = 1.0 if self.memory["steps"] else 1.0 / length(direction)
        predicted = -0.5 * dot(direction, here.gradient) * first
        line, trial, looks, anew = seek(
            ground, here, direction, own, own["lr"] * first, anew=bool(self.memory["steps"])
        )
        if anew:
            said = "the line search failed: the pairs were dropped, and the gradient was followed"
            self._drop()
        if trial is not None:
            self._remember(here, trial)
        return self.settle(ground, here, trial, predicted=predicted, looks=looks, said=said, line=line)

    def _remember(self, here: Here, trial: Trial) -> None:
        s, y = trial.x - here.x, trial.gradient - here.gradient
        steps, changes = self.memory["steps"], self.memory["changes"]
        curved = dot(s, y)
        if self.settings["update"] == "powell":
            y, curved = damped(s, y, -trial.t * here.gradient)
        if not curved > torch.finfo(s.dtype).eps * abs(dot(here.gradient, s)):
            return
        steps.append(s)
        changes.append(y)
        while len(steps) > self.settings["history_size"]:
            del steps[0], changes[0]

    def _drop(self) -> None:
        self.memory["steps"], self.memory["changes"] = [], []


def two_loop(gradient: Tensor, steps: list[Tensor], changes: list[Tensor]) -> Tensor:
    """``H g`` of the inverse Hessian that the pairs make (Nocedal and Wright 2006, algorithm 7.4).

    Args:
        gradient: g.
        steps: s, oldest first.
        changes: y, as many, with ``s.y > 0``.
    """
    q = gradient.clone()
    shares: list[tuple[float, float]] = []
    for s, y in zip(reversed(steps), reversed(changes), strict=True):
        rho = 1.0 / dot(y, s)
        alpha = rho * dot(s, q)
        q -= alpha * y
        shares.append((rho, alpha))
    if steps:
        q *= dot(steps[-1], changes[-1]) / dot(changes[-1], changes[-1])
    for s, y, (rho, alpha) in zip(steps, changes, reversed(shares), strict=True):
        q += (alpha - rho * dot(y, q)) * s
    return q


def damped(s: Tensor, y: Tensor, bs: Tensor) -> tuple[Tensor, float]:
    """Powell's pair: y drawn towards ``B s`` until ``s.y`` is a fifth of ``s.B s`` (procedure 18.2).

    Args:
        s: The step, t d.
        y: The change of the gradient.
        bs: ``B s``, which is ``-t g`` of a step along ``d = -H g``.

    Returns:
        The new y, and ``s.y``.
    """
    sbs, sy = dot(s, bs), dot(s, y)
    if sy >= 0.2 * sbs:
        return y, sy
    theta = 0.8 * sbs / (sbs - sy)
    y = theta * y + (1 - theta) * bs
    return y, dot(s, y)
