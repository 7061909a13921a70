"""QR of the data, block by block, and what follows from its triangle: rank, condition, dependent columns.

``A = Q R`` with orthogonal Q keeps every length, so nothing is squared: R has the singular values of A, where
``A^T A`` of the normal equations has their squares. A triangle on a block of rows gives the triangle of all
(TSQR: Demmel, Grigori, Hoemmen and Langou 2012), so that data may stream.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from downslope.terrain.exact.linalg import lengths, svd

EPS = float(np.finfo(np.float64).eps)

ROUNDING = 1e-6
"""A smaller share of one column in another, both of length 1, is the rounding of float32 data."""


def triangle(blocks: Iterable[Tensor]) -> Tensor:
    """R of the rows of all `blocks`, (p, p) or flatter where there are fewer rows than columns."""
    r: Tensor | None = None
    for block in blocks:
        stacked = block if r is None else torch.cat([r, block])
        r = cast("Tensor", torch.linalg.qr(stacked, mode="r")[1])
    if r is None:
        raise ValueError("no rows")
    return r


class Basis(NamedTuple):
    """Coordinates psi in which ``c A^T A + l2 E`` is the identity: ``theta = T psi``, less what is free."""

    T: Tensor
    """(p, rank)."""
    U: Tensor
    """(rows of the augmented triangle, rank), orthonormal columns."""
    null: Tensor
    """(p, p - rank): changes of theta that change nothing."""
    rank: int
    spread: Tensor
    """Singular values of A with its columns brought to length 1, largest first."""
    raw: Tensor
    """Singular values of A as it is."""

    @property
    def condition(self) -> float:
        """Largest over smallest singular value of A as it is; infinite below full rank."""
        full = self.rank == self.T.shape[0] and float(self.raw[-1]) > 0
        return float(self.raw[0] / self.raw[-1]) if full else float("inf")


def basis(r: Tensor, scale: float, l2: float, penalised: Tensor) -> Basis:
    """The basis of ``scale A^T A + l2 E``, E on the `penalised` columns, from the triangle `r` of A.

    A column counts as dependent where its part that no other explains is below rounding: singular values of
    the columns brought to length 1 below ``max(p, 32) eps`` of the largest.
    """
    p = r.shape[1]
    augmented = r * scale**0.5
    if l2 > 0:
        augmented = torch.cat([augmented, torch.diag(penalised.double() * l2**0.5)])
    size = lengths(augmented)
    u, s, v = svd(augmented / size)
    rank = int((s > s[0] * max(p, 32) * EPS).sum()) if float(s[0]) > 0 else 0
    t = v[:, :rank] / s[:rank] / size[:, None]
    null = v[:, rank:] / size[:, None]
    if null.shape[1]:
        null = cast("Tensor", torch.linalg.qr(null)[0])
    return Basis(t, u[:, :rank], null, rank, svd(r / lengths(r))[1], svd(r)[1])


def shortest(theta: Tensor, null: Tensor, penalised: Tensor) -> Tensor:
    """Of all theta that differ by `null` the one with the shortest penalised part, then the shortest rest."""
    if not null.shape[1]:
        return theta
    shift = torch.linalg.lstsq(null[penalised], theta[penalised], driver="gelsd").solution
    theta = theta - null @ shift
    left = null @ _kernel(null[penalised])
    return theta - left @ (left.T @ theta) if left.shape[1] else theta


def _kernel(matrix: Tensor) -> Tensor:
    if not matrix.shape[0]:
        return torch.eye(matrix.shape[1], dtype=matrix.dtype)
    _, s, v = svd(matrix)
    return v[:, s <= max(matrix.shape) * EPS * max(float(s[0]), 1e-300)]


class Dependence(NamedTuple):
    """A column that others make up."""

    column: int
    of: tuple[tuple[int, float], ...]
    """Other columns with their factors; none where the column is zero."""


def dependent(r: Tensor, rank: int, penalised: Tensor) -> list[Dependence]:
    """Columns that are combinations of others, by QR with pivoting; the first `rank` pivots stay.

    Args:
        r: Triangle of A.
        rank: Its rank.
        penalised: Which columns are weights of inputs; of two that say the same, the bias stays.
    """
    p = r.shape[1]
    if rank == p:
        return []
    safe = lengths(r)
    # Of columns that say the same the last goes, and a constant one before the column of ones: by a hair.
    tilt = torch.linspace(1.0 + 1e-6, 1.0, p, dtype=r.dtype) + 1e-5 * (~penalised)
    import scipy.linalg  # pyright: ignore[reportMissingTypeStubs]

    made: Any = scipy.linalg.qr((r / safe * tilt).numpy(), mode="r", pivoting=True)
    upper = torch.from_numpy(np.array(made[0]))
    pivots = [int(each) for each in made[1]]
    if not rank:
        return [Dependence(each, ()) for each in range(p)]
    triangular: Any = torch.linalg.solve_triangular
    factors = cast("Tensor", triangular(upper[:rank, :rank], upper[:rank, rank:], upper=True))
    found: list[Dependence] = []
    for place, column in enumerate(pivots[rank:]):
        parts = [
            (pivot, float(factors[i, place] * tilt[pivot] * safe[column] / safe[pivot] / tilt[column]))
            for i, pivot in enumerate(pivots[:rank])
            if abs(float(factors[i, place])) > ROUNDING
        ]
        zero = not bool(r[:, column].any())
        found.append(Dependence(column, () if zero else tuple(sorted(parts))))
    return sorted(found)
