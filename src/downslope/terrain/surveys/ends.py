"""The ends of the spectrum that a survey needs: all of it where the matrix is small, else by Lanczos."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from downslope.core.errors import ObjectiveError
from downslope.terrain.operators import Operator
from downslope.terrain.spectrum import extremes

DENSE = 300
"""Parameters up to which the whole matrix is formed, a product for each column."""

SLACK = 20.0
"""Rounding of an eigenvalue, in units of the precision times the largest magnitude of one."""

SETTLED = 0.05
"""Residual of the smallest eigenvalue, as a share of it or of a thousandth of the largest, below which the
search has seen the lower end of the spectrum."""


class Ends(NamedTuple):
    """Eigenvalues at both ends, or all of them."""

    values: Tensor
    """Largest first, float64, shape (k,)."""
    errors: Tensor
    """Residual and rounding of each: an exact eigenvalue lies within it."""
    vectors: Tensor
    """Unit vectors, shape (k, n)."""
    complete: bool
    """Whether these are all eigenvalues there are."""
    settled: bool
    """Whether the smallest has converged: none is smaller, as far as a random start lets one see."""
    products: int


def ends(
    operator: Operator, like: Tensor, *, top: int = 1, tol: float = 1e-3, steps: int = 60, seed: int = 0
) -> Ends:
    """The `top` largest eigenvalues and the smallest one.

    Args:
        operator: Symmetric.
        like: A flat vector in the dtype and on the device of the products.
        top: How many of the largest, at least 1.
        tol: Error at which an eigenvalue counts as found, as a share of it.
        steps: Products at most, at least 2.
        seed: Of the start.

    Raises:
        ObjectiveError: a product is not finite.
    """
    n = operator.size
    if n <= DENSE:
        return _whole(operator, like)
    found = extremes(operator, top, 1, tol=tol, steps=steps, seed=seed, copies=False)
    if found.status == "non-finite":
        raise _lost(like.dtype)
    rounding = _rounding(found.values, like.dtype, exact=operator.exact)
    errors = found.residuals + rounding
    low, large = abs(found.smallest), float(found.values.abs().max())
    settled = found.status == "exhausted" or float(errors[-1]) <= SETTLED * max(low, 1e-3 * large)
    return Ends(found.values, errors, found.vectors, False, settled, found.products)


def _whole(operator: Operator, like: Tensor) -> Ends:
    n = operator.size
    unit = torch.eye(n, dtype=like.dtype, device=like.device)
    matrix = torch.stack([operator.product(column) for column in unit]).double().cpu()
    if not bool(matrix.isfinite().all()):
        raise _lost(like.dtype)
    linalg: Any = torch.linalg
    values: Tensor
    vectors: Tensor
    values, vectors = linalg.eigh((matrix + matrix.T) / 2)
    # What the matrix lacks in symmetry is an error of its products, and bounds that of the eigenvalues.
    lack = float(linalg.matrix_norm(matrix - matrix.T, ord=2)) / 2
    errors = torch.full_like(values, lack) + _rounding(values, like.dtype, exact=operator.exact)
    order = range(n - 1, -1, -1)
    return Ends(values[order], errors, vectors.T[order].to(like.device), True, True, n)


def _rounding(values: Tensor, dtype: torch.dtype, *, exact: bool) -> Tensor:
    """Differences of gradients lose a third of the digits (`downslope.terrain.hvp`)."""
    eps = torch.finfo(dtype).eps
    return SLACK * (eps if exact else eps ** (2 / 3)) * values.abs().max()


LOST = "the curvature is not finite at these weights"

WIDER = "if it is an overflow, float64 mends it (dtype=torch.float64, --dtype float64)"


def lost(error: ObjectiveError) -> bool:
    """Whether it says that there is no curvature although there is a loss."""
    return str(error).startswith(LOST)


def unknown(like: Tensor) -> Ends:
    """What is known where there is no curvature."""
    none = torch.full((1,), math.nan, dtype=torch.float64)
    return Ends(none, none, torch.zeros_like(like)[None], False, False, 0)


def _lost(dtype: torch.dtype) -> ObjectiveError:
    wide = "" if dtype == torch.float64 else f"; {WIDER}"
    return ObjectiveError(
        f"{LOST} although the loss is: look for a square root or a norm at zero in the objective{wide}"
    )
