"""One coordinate at a time, each to its own minimum by Newton's method in one dimension."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from downslope.terrain.ground import Ground
from downslope.terrain.methods.line_search import Line, Trial, backtracking
from downslope.terrain.methods.method import Here, Method, Step
from downslope.terrain.methods.turns import Turns


class CoordinateDescent(Method):
    """``x_i = x_i - g_i / H_ii`` for one i after another, halved until the loss falls.

    A step is a sweep over all coordinates, or `per_step` of them; each costs a product and a look, so a sweep
    costs what n gradients cost. On a quadratic it is Gauss and Seidel's iteration. Where the curvature along
    a coordinate is not positive, its size is taken.

    Args:
        params: Parameters, or groups that differ in `weight_decay`.
        lr: First share of each coordinate's Newton step, in [0, inf).
        order: "cyclic", "random" (another permutation each sweep), or "greedy" (the steepest coordinate,
            Gauss-Southwell).
        per_step: Coordinates of a step, in [1, inf); None for as many as there are.
        inner: Newton steps along one coordinate, in [1, inf): one is exact on a quadratic.
        seed: Of the random order.
        weight_decay: Strength of an l2 term that the method sees, in [0, inf).

    Raises:
        RecipeError: a setting outside its domain.

    Source: Wright 2015, "Coordinate descent algorithms", Mathematical Programming 151.
    """

    source = "Wright 2015"

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1.0,
        order: str = "cyclic",
        per_step: int | None = None,
        inner: int = 1,
        seed: int = 0,
        weight_decay: float = 0.0,
    ) -> None:
        settings = {"lr": lr, "order": order, "per_step": per_step, "inner": inner, "seed": seed}
        super().__init__(params, settings | {"weight_decay": weight_decay})

    def move(self, ground: Ground) -> Step:
        """A sweep, or `per_step` coordinates."""
        begun, own = self.begin(ground), self.settings
        if (none := self.flat_ground(begun)) is not None:
            return none
        turns = Turns(self.memory, ground.size, own["order"], own["seed"])
        here, looks, products, won = begun, 0, 0, 0.0
        last: Trial | None = None
        for _ in range(own["per_step"] or ground.size):
            index = turns.next(here.gradient.abs())
            for _ in range(own["inner"]):
                if not float(here.gradient[index]):
                    break
                line, promised = _line(ground, here, index)
                products += 1
                trial = backtracking(line, own["lr"]) if own["lr"] else line.start
                looks += line.evaluations
                won += promised
                if trial is None:
                    break
                last = trial
                here = Here(trial.x, trial.value, trial.gradient, 0)
        return self.settle(ground, begun, last, predicted=won, looks=looks, products=products)


def _line(ground: Ground, here: Here, index: int) -> tuple[Line, float]:
    """The Newton step along one coordinate, as a line, and what it promises to win."""
    unit = torch.zeros_like(here.x)
    unit[index] = 1.0
    slope = float(here.gradient[index])
    bend = abs(float(ground.hessian().product(unit)[index]))
    step: Tensor = unit * (-slope / bend if bend > torch.finfo(here.x.dtype).tiny else -slope)
    promised = 0.5 * slope * slope / bend if bend else 0.5 * slope * slope
    return Line(ground, here.x, step, here.value, here.gradient), promised
