"""Least squares in a box: an active set decides which weights lie on a bound (Stark and Parker 1995)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from downslope.constraints import Box
from downslope.core.errors import InputError
from downslope.terrain.exact import bounds, notes
from downslope.terrain.exact.checked import measured
from downslope.terrain.exact.design import Design
from downslope.terrain.exact.linalg import length
from downslope.terrain.exact.newton import basis_of
from downslope.terrain.exact.rounding import Told, told
from downslope.terrain.exact.solution import Certificate, Solution
from downslope.terrain.exact.triangle import triangle

EDGE = 1e-12
"""Distance from a bound, in its own size, within which a weight lies on it."""


def bounded(design: Design, l2: float) -> Solution:
    """The least squares with weights between the bounds of the problem's box; `non_negative` is one.

    Equivalent to `scipy.optimize.nnls` and `scipy.optimize.lsq_linear` on the triangle of the data.

    Raises:
        InputError: another constraint, or another loss.
    """
    box = _box(design)
    both = triangle(design.rows_with_targets())
    p, scale = design.columns, (2 * design.loss.scale / design.total)
    r, right = both[:, :p] * scale**0.5, both[:, p:] * scale**0.5
    if l2 > 0:
        r = torch.cat([r, torch.diag((~design.free).double() * l2**0.5)])
        right = torch.cat([right, torch.zeros(p, right.shape[1], dtype=right.dtype)])
    lo, hi = _limits(design, box)
    theta = torch.stack([_column(r, right[:, j], lo[:, j], hi[:, j]) for j in range(right.shape[1])], 1)
    check = measured(design, theta, l2)
    gradient, slack = told(design, theta, l2, design.flat(check.gradient))
    low, high = _on(theta, lo), _on(theta, hi)
    gradient = torch.where(low, gradient.clamp_max(0), gradient)
    gradient = torch.where(high, gradient.clamp_min(0), gradient)
    found = basis_of(design, l2, both[:, :p])
    full = found.rank == p
    gap, distance = bounds.by_inverse(found.T, Told(gradient, slack))
    certificate = Certificate(
        gradient_norm=length(gradient),
        gap=gap if full else float("inf"),
        gap_from="quadratic" if full else "", distance=distance if full else float("inf"),
    )  # fmt: skip
    held = f"{int((low | high).sum())} of {theta.numel()} weights lie on a bound of {box}"
    kind = "strictly-convex" if full else "many-minima"
    return Solution(
        objective=check.objective, loss=check.loss, kind=kind, certificate=certificate,
        method=f"QR of the data and an active set, inside {box}", l2=l2, rank=notes.rank_of(found), columns=p,
        condition=found.condition, weights=design.state(theta), problem=design.problem,
        notes=(held, *notes.of_data(design, found, both[:, :p], l2, kind)),
    )  # fmt: skip


def _box(design: Design) -> Box:
    """The constraint, known to be one that is solved.

    Raises:
        InputError: it is none.
    """
    box: Any = design.problem.constraint
    if design.loss.name != "squared error" or not isinstance(box, Box) or box.by != "projection":
        raise InputError(
            f"constraint {box}: solve takes a box or non_negative, by projection, and only with the squared "
            "error; use fit, which ends every step inside"
        )
    return box


def _on(theta: Tensor, bound: Tensor) -> Tensor:
    """Which weights lie on a bound."""
    return bound.isfinite() & ((theta - bound).abs() <= EDGE * (1 + bound.abs()))


def _limits(design: Design, box: Box) -> tuple[Tensor, Tensor]:
    """Bounds in the shape of theta; infinite for what the box does not hold."""
    ends: list[Tensor] = []
    for bound, none in ((box.lo, -torch.inf), (box.hi, torch.inf)):
        named = design.parameters.items()
        ends.append(
            design.flat(
                [torch.full_like(p, bound if box.takes((name,), p.dim()) else none) for name, p in named]
            ).detach()
        )
    return ends[0], ends[1]


def _column(r: Tensor, right: Tensor, lo: Tensor, hi: Tensor) -> Tensor:
    from scipy.optimize import lsq_linear  # pyright: ignore[reportMissingTypeStubs]

    if not bool((lo < hi).all()):  # SciPy wants room between the bounds
        raise InputError(
            "constraint: both bounds of the box are the same number: there is nothing to solve for"
        )
    matrix, goal = r.numpy(), right.numpy()
    size = np.linalg.norm(matrix, axis=0)
    size[size == 0] = 1.0
    limits = (lo.numpy() * size, hi.numpy() * size)
    made: Any = lsq_linear(matrix / size, goal, limits, method="bvls", tol=1e-15, max_iter=100 * len(size))
    return torch.from_numpy(np.clip(made.x / size, lo.numpy(), hi.numpy()))
