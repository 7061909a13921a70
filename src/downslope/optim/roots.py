"""Inverse roots of symmetric matrices that have no negative eigenvalue, as Shampoo takes them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["eigen", "inverse_root"]


def eigen(matrix: Tensor) -> tuple[Tensor, Tensor] | None:
    """Eigenvalues, rising, and orthonormal eigenvectors of a symmetric matrix, in float64; None where there
    are none.

    LAPACK's divide and conquer may fail on matrices of low rank: then it is asked again for the matrix with
    its diagonal raised by a share of the trace, ``n eps tr(A)``, and by a thousand times that.

    Returns:
        None for a matrix that holds what is not finite, on which LAPACK is never called, and where LAPACK
        failed three times.
    """
    a = matrix.double()
    if not bool(torch.isfinite(a).all()):
        return None
    eye = torch.eye(a.size(0), dtype=a.dtype, device=a.device)
    scale = float(a.diagonal().abs().sum()) * torch.finfo(a.dtype).eps or 1e-300
    for raised in (0.0, 1.0, 1e3):
        try:
            # Not a symmetric half of it: what rounding has made of the other half would be lost.
            found: Any = torch.linalg.eigh((a + a.mT) / 2 + raised * scale * eye)
        except RuntimeError:
            continue
        return found.eigenvalues - raised * scale, found.eigenvectors
    return None


def inverse_root(matrix: Tensor, power: float, eps: float = 0.0) -> Tensor | None:
    """``(A + eps I)^-power`` of a symmetric ``A >= 0``, by its eigenvalues in float64.

    Eigenvalues that rounding has made negative are raised to 0 before `eps` is added, all by the same
    amount. Where ``eps = 0``, directions in which A is 0 within n roundings of its largest eigenvalue are
    left out: the root is that of the pseudo-inverse.

    Args:
        matrix: square and symmetric.
        power: in (0, inf): 1/4 for the two sides of a matrix.
        eps: in [0, inf).

    Returns:
        In the matrix's dtype; None where A has no eigenvalues, see `eigen`, or where the root overflows.

    Differs from: SciPy's ``fractional_matrix_power``, which takes any matrix, by Schur's form.
    """
    found = eigen(matrix)
    if found is None:
        return None
    values, vectors = found
    if values.numel() == 0:
        return matrix.clone()
    values = values - values[0].clamp(max=0.0)
    least = values[-1] * values.numel() * torch.finfo(matrix.dtype).eps
    raised = values + eps
    powers = raised.clamp(min=torch.finfo(values.dtype).tiny) ** -power
    if eps == 0.0:
        powers = torch.where(values > least, powers, 0.0)
    root = ((vectors * powers) @ vectors.mT).to(matrix.dtype)
    return root if bool(torch.isfinite(root).all()) else None
