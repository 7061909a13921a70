"""The eigenbasis of a matrix that changes slowly, and a tensor turned into one along each of its sides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from downslope.optim.roots import eigen

__all__ = ["basis_of", "gram", "power_step", "turned", "turned_back"]


def gram(g: Tensor, side: int) -> Tensor:
    """``G_k G_k'``, with G_k the tensor as a matrix that has side k for its rows: of a matrix g g' and g' g.

    Source: Gupta and others 2018, section 4, "contraction" of all sides but one.
    """
    if g.ndim == 2:
        return g @ g.mT if side == 0 else g.mT @ g
    rows = g.movedim(side, 0).reshape(g.size(side), -1)
    return rows @ rows.mT


def basis_of(matrix: Tensor) -> Tensor | None:
    """Eigenvectors as columns, of the largest eigenvalue first; None where there are none, see `eigen`."""
    found = eigen(matrix)
    return None if found is None else found[1].flip(1).to(matrix.dtype)


def power_step(matrix: Tensor, basis: Tensor) -> tuple[Tensor, Tensor]:
    """One step of orthogonal iteration: ``Q = QR(P Q)``, from the columns in the order of ``q' P q``.

    The order matters, since Gram and Schmidt's first column is kept whole and the others give way.

    Args:
        matrix: P, symmetric.
        basis: Q, of orthonormal columns.

    Returns:
        The new basis, and the order in which the old columns went into it: both as they were, where P holds
        what is not finite.

    Source: Vyas and others 2024, algorithm 4; the order is that of their code.
    """
    image = matrix @ basis
    if not bool(torch.isfinite(image).all()):
        return basis, torch.arange(basis.size(1), device=basis.device)
    order = (basis * image).sum(0).argsort(descending=True, stable=True)
    made: Any = torch.linalg.qr(image[:, order])
    return made.Q, order


def turned(g: Tensor, bases: Sequence[Tensor | None]) -> Tensor:
    """``Q_L' G Q_R``, of a tensor along each of its sides; None is the identity."""
    for side, basis in enumerate(bases):
        if basis is not None:
            g = _along(g, basis.mT, side)
    return g


def turned_back(g: Tensor, bases: Sequence[Tensor | None]) -> Tensor:
    """``Q_L G Q_R'``: what undoes `turned`."""
    for side, basis in enumerate(bases):
        if basis is not None:
            g = _along(g, basis, side)
    return g


def _along(g: Tensor, matrix: Tensor, side: int) -> Tensor:
    if g.ndim == 2:
        return matrix @ g if side == 0 else g @ matrix.mT
    fold: Any = torch.tensordot
    return fold(matrix, g, dims=([1], [side])).movedim(0, side)
