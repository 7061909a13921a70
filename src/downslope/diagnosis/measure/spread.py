"""How unevenly the inputs spread: the condition number of their correlations, without any training."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from downslope.core import batches
from downslope.core.adapted import NARROW
from downslope.core.edits import WhitenInputs
from downslope.core.fixed_sample import sample
from downslope.core.problem import Problem
from downslope.core.run import Run
from downslope.diagnosis.progress import table

ROWS, WIDEST = 2048, 512
"""Examples at most, and features at most."""

UNEVEN = 1000.0
"""Condition number of the inputs' correlations from which it is asked for, and the number of steps where that
is more: descent at its limit needs as many (Goodfellow et al. 2016, section 4.3). Tables whose columns say
nearly the same, such as diabetes, have 500."""


def measure(problem: Problem) -> dict[str, Any] | None:
    """Eigenvalues of the correlation matrix of the inputs.

    Of columns of one scale what is left is how far the directions differ: the condition number that descent
    on a linear model meets once its inputs are standardised.

    Returns:
        ``condition`` (largest in smallest eigenvalue, of those above `NARROW` times the largest),
        ``features`` and ``examples``; None for inputs that are no table of numbers, that have fewer than two
        examples for each feature, or that are whitened already.
    """
    args, kwargs, _ = problem.splitter(sample(problem.train_source, ROWS, torch.float64))
    given = batches.tensors((args, kwargs))
    if len(given) != 1 or any(isinstance(each, WhitenInputs) for each in problem.edits):
        return None
    x = given[0].detach()
    if not x.is_floating_point() or x.dim() != 2 or not 2 <= x.shape[1] <= min(WIDEST, len(x) // 2):
        return None
    std = x.std(0, correction=0)
    varies = std > 1e-9 * x.square().mean(0).sqrt().clamp_min(1e-300)
    z = (x - x.mean(0))[:, varies] / std[varies]
    if z.shape[1] < 2 or not bool(z.isfinite().all()):
        return None
    lengths = cast("Tensor", torch.linalg.eigvalsh(z.T @ z / len(z)))
    kept = lengths[lengths > NARROW * lengths[-1]]
    return {"condition": float(kept[-1] / kept[0]), "features": x.shape[1], "examples": len(x)}


def narrow(run: Run) -> float | None:
    """The condition number of the inputs where it asks for more steps than the run had; None elsewhere."""
    condition: float | None = table(run, "spread").get("condition")
    steps = int(run.summary.get("steps") or 0)
    return condition if condition is not None and condition > max(UNEVEN, steps) else None
