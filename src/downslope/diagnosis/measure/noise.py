"""How much of a batch's gradient is noise, at the last weights of a run."""

from __future__ import annotations

import math
from typing import Any

import torch

from downslope.core import batches
from downslope.core.fixed_sample import precision, sample
from downslope.core.loss import Objective
from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.core.run import Run
from downslope.core.sources import Memory
from downslope.terrain.ground import ModelGround, Piece
from downslope.terrain.noise import noise_scale

BATCHES = 12
"""Batches of the recipe's size whose gradients are compared."""

WIDEST = 5_000_000
"""Parameters beyond which the gradients of all batches are not held side by side."""


def measure(run: Run, problem: Problem, recipe: Recipe) -> dict[str, Any] | None:
    """The gradient noise scale at the run's last weights.

    Returns:
        ``scale`` (examples: at this batch size noise and signal are equal; None for no signal at all),
        ``batch``, ``ratio`` (scale / batch), ``low`` and ``high`` (the ratio where both moments are off by
        a standard error; None for no bound), ``batches``; None for less than four batches of data.
    """
    source = problem.train_source
    size = recipe.batch_size if isinstance(recipe.batch_size, int) else (source.size or 1)
    if not isinstance(source, Memory):
        size = batches.length(next(iter(source.stored(1))))
    model = run.model("last")
    if sum(p.numel() for p in model.parameters()) > WIDEST:
        return None
    # Where the batch is the data itself, its noise shows between quarters of it.
    part = max(1, min(size, (source.size or size * BATCHES) // 4))
    held = Memory(sample(source, part * BATCHES, precision(model)))
    pieces = [Piece(each, 1.0) for each in held.epoch(part, recipe.seed, 0) if batches.length(each) == part]
    if len(pieces) < 4:
        return None
    ground = ModelGround(model.train(), Objective(problem), pieces, seed=recipe.seed)
    found = noise_scale(torch.stack([gradient for _, gradient, _ in ground.slopes()]), part)
    return {
        "scale": _finite(found.scale), "batch": size, "ratio": _finite(found.scale / size),
        "low": _finite(found.low / size), "high": _finite(found.high / size), "batches": len(pieces),
    }  # fmt: skip


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
