"""One block of parameters at a time, a tensor or a layer, each by a Newton step of its own."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from downslope.terrain.ground import Ground
from downslope.terrain.hvp import length
from downslope.terrain.methods.conjugate_gradients import conjugate_gradients
from downslope.terrain.methods.line_search import Line, Trial, backtracking, dot
from downslope.terrain.methods.method import Here, Method, Step
from downslope.terrain.methods.turns import Turns


class BlockCoordinateDescent(Method):
    """``x_B = x_B - t H_BB^-1 g_B`` for one block B after another, the others held.

    H_BB is the block of the Hessian, solved by truncated conjugate gradients whose products are restricted to
    the block. A step is a round over all blocks, or `per_step` of them.

    Args:
        params: Parameters, or groups that differ in `weight_decay`.
        lr: First t of each line search, in [0, inf).
        blocks: "layer" (the tensors of one module together) or "tensor". Without names, as in a loop of one's
            own, each tensor is a block.
        order: "cyclic", "random" (another permutation each round), or "greedy" (the steepest block).
        per_step: Blocks of a step, in [1, inf); None for as many as there are.
        max_cg: Products of one solution, in [1, inf); None for as many as the block has parameters, 100 at
            most.
        seed: Of the random order.
        weight_decay: Strength of an l2 term that the method sees, in [0, inf).

    Raises:
        RecipeError: a setting outside its domain.

    Source: Wright 2015, "Coordinate descent algorithms", Mathematical Programming 151, section 1.
    """

    source = "Wright 2015"

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1.0,
        blocks: str = "layer",
        order: str = "cyclic",
        per_step: int | None = None,
        max_cg: int | None = None,
        seed: int = 0,
        weight_decay: float = 0.0,
    ) -> None:
        settings = {
            "lr": lr, "blocks": blocks, "order": order, "per_step": per_step, "max_cg": max_cg, "seed": seed,
        }  # fmt: skip
        super().__init__(params, settings | {"weight_decay": weight_decay})

    def move(self, ground: Ground) -> Step:
        """A round, or `per_step` blocks."""
        begun, own = self.begin(ground), self.settings
        if (none := self.flat_ground(begun)) is not None:
            return none
        places = blocks_of(ground, own["blocks"])
        turns = Turns(self.memory, len(places), own["order"], own["seed"])
        here, looks, products, won = begun, 0, 0, 0.0
        last: Trial | None = None
        for _ in range(own["per_step"] or len(places)):
            sizes = torch.tensor([length(here.gradient[each]) for each in places])
            place = places[turns.next(sizes)]
            if not bool(here.gradient[place].any()):
                continue
            direction, taken = self._direction(ground, here, place)
            line = Line(ground, here.x, direction, here.value, here.gradient)
            trial = backtracking(line, own["lr"]) if own["lr"] else line.start
            products, looks = products + taken, looks + line.evaluations
            won -= 0.5 * dot(direction, here.gradient)
            if trial is not None:
                last, here = trial, Here(trial.x, trial.value, trial.gradient, 0)
        return self.settle(ground, begun, last, predicted=won, looks=looks, products=products)

    def _direction(self, ground: Ground, here: Here, place: slice) -> tuple[Tensor, int]:
        """The Newton step of a block, zero elsewhere, and the products that it took."""
        operator, g = ground.hessian(), here.gradient[place]

        def restricted(v: Tensor) -> Tensor:
            whole = torch.zeros_like(here.x)
            whole[place] = v
            return operator.product(whole)[place]

        norm = length(g)
        most = self.settings["max_cg"] or min(len(g), 100)
        solved = conjugate_gradients(restricted, g, tol=min(0.1, math.sqrt(norm)) * norm, max_cg=most)
        step = solved.step if bool(solved.step.any()) and dot(solved.step, g) < 0 else -g
        whole = torch.zeros_like(here.x)
        whole[place] = step
        return whole, solved.products


def blocks_of(ground: Ground, kind: str) -> list[slice]:
    """Where the blocks lie in the flat vector: of each tensor, or of neighbours of one module."""
    edges = list(itertools.accumulate((p.numel() for p in ground.params), initial=0))
    homes = [name.rpartition(".")[0] if kind == "layer" else str(i) for i, name in enumerate(ground.names)]
    if not any(homes):
        homes = [str(i) for i in range(len(homes))]
    found: list[slice] = []
    for _, rows in itertools.groupby(range(len(homes)), key=homes.__getitem__):
        indices = list(rows)
        found.append(slice(edges[indices[0]], edges[indices[-1] + 1]))
    return found
