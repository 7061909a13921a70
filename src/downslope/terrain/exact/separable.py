"""Whether classes can be separated, so that no minimum is attained: a linear programme decides.

The likelihood of a logistic or softmax model has no maximum if and only if a direction exists along which no
example gets worse and one gets better (Albert and Anderson 1984, Biometrika 71, theorems 1 and 2).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from downslope.terrain.exact.design import Block, Design

LARGEST = 30_000_000
"""Entries of the programme's matrix at most; a larger one is left undecided."""


def direction(design: Design, columns: Tensor) -> Tensor | bool | None:
    """A direction theta that separates, for the loss of classes or yes and no that `design` has.

    Args:
        design: The data.
        columns: Which columns theta may have, (p,) of bool: under a penalty those that it leaves free.

    Returns:
        theta of largest total margin in the unit box; None where none exists; False where the programme is
        too large, or the solver gave up.
    """
    if not bool(columns.any()):
        return None
    if design.biased and int(columns.sum()) == 1 and bool(design.free[columns].all()):
        return _by_counts(design)
    sizes = design.examples * int(columns.sum()) * design.outputs
    if sizes * (design.outputs if design.loss.classes else 1) > LARGEST or not design.kept:
        return False
    parts = [_constraints(block, design, columns) for block in design.blocks()]
    if any(part is None for part in parts):
        return False
    matrix = torch.cat([part for part in parts if part is not None]).numpy()
    found = _programme(matrix)
    if found is None or isinstance(found, bool):
        return found
    theta = torch.zeros(
        design.columns, design.outputs if design.layer is not None else 1, dtype=torch.float64
    )
    theta[columns] = found.reshape(-1, theta.shape[1])
    return theta


def _programme(matrix: Any) -> Tensor | bool | None:
    """X in a box with ``matrix @ x >= 0`` of the largest sum; None where that is 0, False where it failed."""
    from scipy.optimize import linprog  # pyright: ignore[reportMissingTypeStubs]

    lengths = np.linalg.norm(matrix, axis=0)
    lengths[lengths == 0] = 1.0
    scaled = matrix / lengths
    scaled /= float(np.abs(scaled).max()) or 1.0
    nothing = np.zeros(len(scaled))
    solved: Any = linprog(-scaled.sum(0), A_ub=-scaled, b_ub=nothing, bounds=(-1, 1), method="highs")
    if solved.status != 0:
        return False
    if (scaled @ solved.x).max(initial=0.0) <= 1e-7:
        return None
    return torch.from_numpy(solved.x / lengths)


def _by_counts(design: Design) -> Tensor | None:
    """With biases alone: they separate where a class has no example, or a question one answer only."""
    most = torch.zeros(design.outputs, dtype=torch.float64)
    least = torch.full_like(most, torch.inf)
    for block in design.blocks():
        most = torch.maximum(most, block.target.amax(0))
        least = torch.minimum(least, block.target.amin(0))
    never = -1.0 * (most == 0)
    always = torch.zeros_like(most) if design.loss.classes else 1.0 * (least == 1)
    if not bool((never + always).any()):
        return None
    theta = torch.zeros(design.columns, design.outputs, dtype=torch.float64)
    theta[design.free] = never + always
    return theta


def _constraints(block: Block, design: Design, columns: Tensor) -> Tensor | None:
    """Rows whose products with theta, flattened, must not be negative; None where a target is uncertain."""
    x, y = block.rows[..., columns], block.target
    k = design.outputs
    if design.layer is not None:  # (n, k, p * k)
        full = torch.einsum("np,ab->napb", x, torch.eye(k, dtype=x.dtype)).reshape(len(x), k, -1)
    else:
        full = x
    if not design.loss.classes:
        signs = torch.where(y == 1, 1.0, torch.where(y == 0, -1.0, 0.0)).to(x.dtype)
        return (full * signs[..., None]).reshape(len(x) * k, -1) if bool((signs != 0).all()) else None
    counted = y.sum(1) > 0
    right = y[counted] > 0
    if bool((right.sum(1) != 1).any()):
        return None
    kept = full[counted]
    own = kept[right][:, None, :]
    return (own - kept)[~right]
