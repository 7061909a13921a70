"""Extreme eigenvalues of a symmetric operator by Lanczos, with full reorthogonalisation.

Golub and Van Loan, Matrix Computations (4th edition), section 10.1; the residual of a Ritz value is
``beta_k |s_k|`` (Parlett, The Symmetric Eigenvalue Problem, section 13.2): an eigenvalue lies within it.
Keeping every vector orthogonal costs one matrix product a step, and spares the copies that plain Lanczos
makes of an eigenvalue once it has converged.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from downslope.terrain.krylov import Krylov, Pairs

Which = Literal["top", "bottom", "both"]
Status = Literal["converged", "steps", "exhausted", "non-finite"]


class Ritz(NamedTuple):
    """An approximate eigenvalue."""

    value: float
    """NaN where the operator gave something non-finite."""
    residual: float
    """``|A x - value x|`` for a unit vector x: an exact eigenvalue lies within this distance."""
    vector: Tensor
    """Unit vector x, in the dtype of the start."""


class Extremes(NamedTuple):
    """What Lanczos found."""

    top: Ritz
    bottom: Ritz
    iterations: int
    """Products with the operator."""
    status: Status
    """"converged": the residuals asked for are below the tolerance. "steps": they are not, after all steps.
    "exhausted": an invariant subspace, so the values are exact eigenvalues. "non-finite": no answer."""


def lanczos(
    product: Callable[[Tensor], Tensor], start: Tensor, *, steps: int, tol: float, which: Which = "top"
) -> Extremes:
    """The largest and the smallest eigenvalue (not in magnitude) that `steps` products can tell.

    Equivalent to `scipy.sparse.linalg.eigsh` with ``which="LA"`` or ``"SA"``, without restarts.

    Args:
        product: ``v -> A v`` on flat vectors, A symmetric.
        start: shape (n,), any vector but zero; a random one meets every eigenvector.
        steps: products at most, at least 1.
        tol: stop when the residual is below ``tol`` times the value.
        which: the end of the spectrum that has to converge.

    Returns:
        Both ends, whichever was asked for, with residuals.
    """
    space = Krylov(product, start, min(steps, len(start)))
    status: Status | None = None
    pairs = None
    while status is None or pairs is None:
        space.grow()
        if space.lost:
            nothing = Ritz(float("nan"), float("inf"), torch.full_like(start, float("nan")))
            return Extremes(nothing, nothing, space.products, "non-finite")
        pairs = space.ritz()
        status = "exhausted" if space.broken else _judge(pairs, tol, which)
        if status is None and space.full:
            status = "exhausted" if space.count == len(start) else "steps"
    vectors = space.vectors(pairs.coordinates[:, [-1, 0]])
    top, bottom = (
        Ritz(float(pairs.values[i]), float(pairs.residuals[i]), vector)
        for i, vector in zip((-1, 0), vectors, strict=True)
    )
    return Extremes(top, bottom, space.products, status)


def _judge(pairs: Pairs, tol: float, which: Which) -> Status | None:
    """Whether the ends that were asked for are good enough."""
    ends = {"top": (-1,), "bottom": (0,), "both": (-1, 0)}[which]
    within = all(float(pairs.residuals[i]) <= tol * abs(float(pairs.values[i])) for i in ends)
    # One step tells of the start vector only, and that was drawn at random.
    return "converged" if within and len(pairs.values) > 1 else None
