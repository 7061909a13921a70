"""Matrices with spectra that are known, as operators that are only known by their products."""

from __future__ import annotations

import torch
from torch import Tensor


class Matrix:
    """A dense matrix as an operator that counts its products."""

    exact = True

    def __init__(self, matrix: Tensor) -> None:
        self.matrix, self.size, self.dtype, self.count = matrix, len(matrix), matrix.dtype, 0

    def product(self, vector: Tensor) -> Tensor:
        self.count += 1
        return self.matrix @ vector


def turned(values: Tensor, seed: int = 0) -> Matrix:
    """A matrix with these eigenvalues and random eigenvectors."""
    draw = torch.Generator().manual_seed(seed)
    q, _ = torch.linalg.qr(torch.randn(len(values), len(values), generator=draw, dtype=torch.float64))
    return Matrix(q @ torch.diag(values.double()) @ q.T)


def spread(n: int = 200) -> dict[str, Tensor]:
    """Eigenvalues of several kinds."""
    return {
        "outliers": torch.cat([torch.linspace(0, 1, n - 5), torch.tensor([10.0, 20.0, 21.0, 50.0, 100.0])]),
        "indefinite": torch.linspace(-3, 5, n),
        "multiple": torch.tensor([5.0, 5, 5, 4, 4, *torch.linspace(-1, 1, n - 10), -2, -2, -2, -2, -3]),
        "low rank": torch.tensor([7.0, -2.0] + [0.0] * (n - 2)),
        "singular": torch.cat([torch.logspace(-3, 2, 60), torch.zeros(n - 60)]),
        "identity": torch.ones(n),
        "zero": torch.zeros(n),
    }


def dense(operator: Matrix) -> Tensor:
    """All eigenvalues, largest first, by LAPACK."""
    return torch.linalg.eigvalsh(operator.matrix.double()).flip(0)
