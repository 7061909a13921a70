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

from downslope.terrain.hvp import length

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
    basis = torch.empty((min(steps, len(start)), len(start)), dtype=start.dtype, device=start.device)
    eps = torch.finfo(start.dtype).eps
    v = start / length(start)
    diagonal: list[float] = []
    beside: list[float] = []
    status: Status | None = None
    while status is None:
        k = len(diagonal)
        basis[k] = v
        w = product(v)
        if not bool(w.isfinite().all()):
            nothing = Ritz(float("nan"), float("inf"), torch.full_like(start, float("nan")))
            return Extremes(nothing, nothing, k + 1, "non-finite")
        diagonal.append(float(torch.dot(w, v)))
        w = _orthogonal(w, basis[: k + 1])
        beside.append(length(w))
        values, _, residuals = _ritz(diagonal, beside)
        status = _judge(values, residuals, beside[-1], tol, which, eps)
        if status is None and k + 1 == len(basis):
            status = "exhausted" if k + 1 == len(start) else "steps"
        v = w / beside[-1] if status is None else v
    values, vectors, residuals = _ritz(diagonal, beside)
    used = basis[: len(diagonal)]
    ends = [Ritz(float(values[i]), float(residuals[i]), used.T @ vectors[:, i].to(used)) for i in (-1, 0)]
    return Extremes(ends[0], ends[1], len(diagonal), status)


def _orthogonal(w: Tensor, basis: Tensor) -> Tensor:
    """Twice is enough (Kahan, in Parlett, section 6.9)."""
    for _ in range(2):
        w = w - basis.T @ (basis @ w)
    return w


def _ritz(diagonal: list[float], beside: list[float]) -> tuple[Tensor, Tensor, Tensor]:
    """Eigenvalues, ascending, eigenvectors and residuals of the tridiagonal matrix, in float64."""
    off = torch.tensor(beside[:-1], dtype=torch.float64)
    matrix = (
        torch.diag(torch.tensor(diagonal, dtype=torch.float64)) + torch.diag(off, 1) + torch.diag(off, -1)
    )
    values, vectors = torch.linalg.eigh(matrix)
    return values, vectors, beside[-1] * vectors[-1].abs()


def _judge(
    values: Tensor, residuals: Tensor, beta: float, tol: float, which: Which, eps: float
) -> Status | None:
    """Whether to stop, and why."""
    if beta <= 10 * eps * float(values.abs().max()):
        return "exhausted"
    ends = {"top": (-1,), "bottom": (0,), "both": (-1, 0)}[which]
    within = all(float(residuals[i]) <= tol * abs(float(values[i])) for i in ends)
    # One step tells of the start vector only, and that was drawn at random.
    return "converged" if within and len(values) > 1 else None
