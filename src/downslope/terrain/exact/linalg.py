"""Torch's dense linear algebra with its types said, as far as exact solutions use it."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

JITTER = (0.0, 1e-14, 1e-12, 1e-10, 1e-8, 1e-6)
"""Shares of the largest diagonal entry that are added, one after another, until a matrix is positive."""


def length(vector: Tensor) -> float:
    """Euclidean length of all entries."""
    return float(vector.square().sum().sqrt())


def lengths(matrix: Tensor) -> Tensor:
    """Lengths of the columns; 1 for a column of zeros."""
    found = column_lengths(matrix)
    return torch.where(found > 0, found, torch.ones_like(found))


def column_lengths(matrix: Tensor) -> Tensor:
    """Lengths of the columns."""
    return cast("Tensor", torch.linalg.vector_norm(matrix, dim=0))


def cholesky(matrix: Tensor) -> Tensor | None:
    """The lower factor, with the smallest of `JITTER` that makes one; None where none does."""
    eye = torch.eye(len(matrix), dtype=matrix.dtype)
    largest = float(matrix.diagonal().max())
    for jitter in JITTER:
        factor, failed = cast(
            "tuple[Tensor, Tensor]", torch.linalg.cholesky_ex(matrix + jitter * largest * eye)
        )
        if int(failed) == 0:
            return factor
    return None


def eigenvalues(matrix: Tensor) -> Tensor:
    """Of a symmetric matrix, smallest first."""
    return cast("Tensor", torch.linalg.eigvalsh(matrix))


def svd(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """U, s, V with all columns of V."""
    rows, columns = matrix.shape
    if rows < columns:
        matrix = torch.cat([matrix, matrix.new_zeros(columns - rows, columns)])
    u, s, vh = cast("tuple[Tensor, Tensor, Tensor]", torch.linalg.svd(matrix, full_matrices=False))
    return u[:rows], s, vh.T
