"""Hessian-free optimisation: long conjugate gradient solves of a damped quadratic model."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from downslope.core import batches, randomness
from downslope.core.errors import RecipeError
from downslope.terrain.ground import Ground, ModelGround, Piece
from downslope.terrain.methods.conjugate_gradients import Solved, conjugate_gradients
from downslope.terrain.methods.line_search import Line, backtracking, dot, rounding
from downslope.terrain.methods.linearised import model_of
from downslope.terrain.methods.method import Here, Method, Step
from downslope.terrain.operators.curvature import Curvature
from downslope.terrain.operators.gauss_newton import GaussNewton
from downslope.terrain.operators.operator import Operator

DRAWS = 8
"""Random signs of the examples of which the preconditioner is made; a gradient each."""


class HessianFree(Method):
    """``p = p + d``, d from conjugate gradients on ``q(d) = g.d + d^T (B + lambda I) d / 2``, B never formed.

    B is the Gauss-Newton matrix, or the Hessian. The solve begins at the last d, shrunk, and ends where q
    stops falling: after i products, if q_i < 0 and ``(q_i - q_i-k) / q_i < k tol`` with k = max(10, i / 10).
    Of the points on the way, kept at products 1.3 times apart, the last before the loss itself rises is
    taken, then a line search. lambda follows the ratio of what the loss lost to what q promised: 3/2 of it
    below 1/4, 2/3 above 3/4.

    Args:
        params: Parameters, or groups that differ in `weight_decay`.
        lr: First t of the line search, in [0, inf).
        damping: First lambda, in (0, inf).
        curvature: "gauss_newton", or "hessian", whose negative directions end the solve.
        share: Share of the batch that curvature is taken on, in (0, 1], other examples at each step; the
            gradient is that of the whole.
        precondition: a in ``(diag + lambda)^a``, diag that of the empirical Fisher matrix, in [0, 1]; 0.75
            is Martens', 0 none.
        start: Share of the last d where the solve begins, in [0, 1).
        tol: Of the rule by which it ends, in (0, 1).
        max_cg: Products of a solve at most; as many as parameters if None.
        weight_decay: Strength of an l2 term that the method sees, in [0, inf).

    Memory: the last d, and about six vectors more during a solve.

    Raises:
        RecipeError: a setting outside its domain.
        ModelError: at a step, a closure in place of a model's ground.

    Source: Martens 2010, Deep learning via Hessian-free optimization, sections 3 and 4; Martens and
    Sutskever 2012, Training deep and recurrent networks with Hessian-free optimization.
    """

    source = "Martens 2010"

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1.0,
        damping: float = 0.01,
        curvature: str = "gauss_newton",
        share: float = 1.0,
        precondition: float = 0.75,
        start: float = 0.95,
        tol: float = 5e-4,
        max_cg: int | None = 250,
        weight_decay: float = 0.0,
    ) -> None:
        if not damping:
            raise RecipeError("damping=0: must lie in (0, inf), it is what rises and falls; 0.01 is usual")
        settings = {
            "lr": lr, "damping": damping, "curvature": curvature, "share": share,
            "precondition": precondition, "start": start, "tol": tol, "max_cg": max_cg,
            "weight_decay": weight_decay,
        }  # fmt: skip
        super().__init__(params, settings)

    def move(self, ground: Ground) -> Step:
        """One solve, the best of its iterates, and one line search."""
        model, own, memory = model_of(ground, "HessianFree"), self.settings, self.memory
        here = self.begin(ground)
        if (none := self.flat_ground(here)) is not None:
            return none
        memory["step"] = memory.get("step", 0) + 1
        memory.setdefault("seed", model.still.seed)
        damping: float = memory.setdefault("damping", own["damping"])
        part = self._part(model)
        formed = part.formed
        way, solved = self._solve(part, here, damping)
        ground.formed += 0 if part is model else part.formed - formed
        d, value, looks = self._back(ground, here, way)
        predicted = -solved.decrease if way[-1][0] is d else way_value(way, d)
        if -predicted > rounding(here.value, here.x.dtype):
            ratio = (value - here.value) / predicted
            if not ratio >= 0.25:
                memory["damping"] = damping * 1.5
            elif ratio > 0.75:
                memory["damping"] = damping * 2 / 3
        memory["last"] = way[-1][0]
        said = "negative curvature ended the solve" if solved.ended == "negative" else ""
        falls = dot(d, here.gradient) < 0
        if not falls and not value < here.value:
            d, said, falls = -here.gradient, "the solve gave no descent: the gradient was followed", True
        line = Line(ground, here.x, d, here.value, here.gradient)
        if falls and own["lr"]:
            trial = backtracking(line, own["lr"], c1=1e-2)
        else:  # lower, over a ridge: where the last step led on
            trial = line.at(1.0) if own["lr"] else line.start
        if trial is None:
            memory["last"] = torch.zeros_like(d)
        return self.settle(
            ground, here, trial, predicted=-predicted, looks=looks + line.evaluations,
            products=solved.products, said=said,
        )  # fmt: skip

    def _part(self, ground: ModelGround) -> ModelGround:
        """The part of the batch that curvature is taken on."""
        share = self.settings["share"]
        if share >= 1:
            return ground
        pieces: list[Piece] = []
        for index, (batch, weight) in enumerate(ground.pieces):
            size = batches.length(batch)
            place = randomness.generator(self.memory["seed"], "probe", index, self.memory["step"])
            rows = torch.randperm(size, generator=place)[: max(1, round(share * size))].sort().values
            pieces.append(Piece(batches.take(batch, rows.to(ground.params[0].device)), weight))
        part = ModelGround(ground.model, ground.objective, pieces, seed=ground.still.seed)
        part.still, part.decay = ground.still, ground.decay  # running statistics have moved already
        return part

    def _solve(
        self, ground: ModelGround, here: Here, damping: float
    ) -> tuple[list[tuple[Tensor, float]], Solved]:
        """Iterates with their q, the last one last; and how the solve ended."""
        own = self.settings
        outer = ground.gauss_newton()
        operator: Operator = outer if own["curvature"] == "gauss_newton" else ground.hessian()
        scale = None
        if own["precondition"]:
            place = randomness.generator(self.memory["seed"], "probe", self.memory["step"])
            scale = (squared_gradients(outer, here.gradient, place) + damping) ** own["precondition"]
        way: list[tuple[Tensor, float]] = []
        values: list[float] = []

        def watch(d: Tensor, q: float) -> bool:
            values.append(q)
            if len(values) >= 1.3 ** len(way):
                way.append((d, q))
            return ended(values, own["tol"])

        last = self.memory.get("last")
        solved = conjugate_gradients(
            lambda v: operator.product(v) + damping * v,
            here.gradient,
            tol=0.0,
            max_cg=own["max_cg"],
            precondition=None if scale is None else lambda r: r / scale,
            start=None if last is None else own["start"] * last,
            watch=watch,
        )
        if not way or way[-1][0] is not solved.step:
            way.append((solved.step, -solved.decrease))
        return way, solved

    def _back(self, ground: Ground, here: Here, way: list[tuple[Tensor, float]]) -> tuple[Tensor, float, int]:
        """The last iterate before the loss rises, its loss, and the looks that it took."""
        best, value, looks = way[-1][0], self._loss(ground, here.x + way[-1][0]), 1
        for d, _ in reversed(way[:-1]):
            earlier = self._loss(ground, here.x + d)
            looks += 1
            if not earlier < value and math.isfinite(value):
                break
            best, value = d, earlier
        return best, value, looks

    @staticmethod
    def _loss(ground: Ground, x: Tensor) -> float:
        ground.put(x)
        found = ground.loss()
        return found if math.isfinite(found) else math.inf


def way_value(way: list[tuple[Tensor, float]], d: Tensor) -> float:
    """Q of an iterate."""
    return next(q for each, q in way if each is d)


def ended(values: list[float], tol: float) -> bool:
    """Whether q has stopped falling (Martens 2010, section 4.4)."""
    count = len(values)
    back = max(10, count // 10)
    if count <= back or values[-1] >= 0:
        return False
    return (values[-1] - values[-1 - back]) / values[-1] < back * tol


def squared_gradients(operator: Operator, like: Tensor, generator: torch.Generator) -> Tensor:
    """``mean_i g_i^2`` over examples, from gradients of which the examples' signs are drawn at random."""
    total = torch.zeros_like(like)
    for term, weight in operator.terms() if isinstance(operator, Curvature) else []:
        if not isinstance(term, GaussNewton) or not term.outputs.slopes:
            continue
        slopes = term.outputs.slopes
        count = len(slopes[0]) if slopes[0].dim() else 1
        for _ in range(DRAWS):
            sign = (torch.randint(2, (count,), generator=generator) * 2 - 1).to(slopes[0])
            parts = [
                each * sign.reshape(-1, *[1] * (each.dim() - 1)) if len(each) == count else each
                for each in slopes
            ]
            total += weight * count / DRAWS * term.outputs.transposed(parts) ** 2
    return total
