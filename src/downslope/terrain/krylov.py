"""A symmetric operator seen from a Krylov subspace whose basis is kept orthogonal (Lanczos 1950).

The basis is orthogonalised in full and twice (Parlett, The Symmetric Eigenvalue Problem, section 6.9), and
all of ``V^T A V`` is kept rather than its three diagonals, so that a thick restart (Wu and Simon 2000,
Thick-restart Lanczos method for large symmetric eigenvalue problems) and products that are not quite
symmetric need no care of their own. Every search for eigenvalues and every quadrature of a spectrum grows one
of these.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from downslope.terrain.hvp import length


class Pairs(NamedTuple):
    """Eigenpairs of the projected operator, ascending."""

    values: Tensor
    """Shape (k,), float64, on the CPU."""
    coordinates: Tensor
    """Shape (k, k), a column each, in the basis."""
    residuals: Tensor
    """``|A x - value x|``, shape (k,): an eigenvalue of A lies within it (Parlett, section 4.5)."""


class Krylov:
    """``span(b, A b, A^2 b, ...)``, a vector more with every product.

    Args:
        product: ``v -> A v`` on flat vectors, A symmetric.
        start: b, shape (n,), any vector but zero.
        room: Vectors that are held at most; memory is ``room * n`` numbers.
        locked: Orthonormal rows, shape (j, n), that the subspace stays orthogonal to.

    Attributes:
        count: Vectors in the basis.
        products: Products taken.
        beyond: Norm of what the last product leaves of the subspace; 0 of an invariant one.
        lost: Whether a product was not finite; nothing can be told then.
    """

    def __init__(
        self, product: Callable[[Tensor], Tensor], start: Tensor, room: int, locked: Tensor | None = None
    ) -> None:
        self._product = product
        self.basis = torch.empty((room, len(start)), dtype=start.dtype, device=start.device)
        self.matrix = torch.zeros((room, room), dtype=torch.float64)
        self.locked = self.basis[:0] if locked is None else locked
        self._leak = torch.zeros((len(self.locked), room), dtype=torch.float64)
        self.count = self.products = 0
        self.beyond, self.lost = 0.0, False
        self._next = start
        self.turn(start)

    @property
    def full(self) -> bool:
        """Whether the next vector needs a restart first."""
        return self.count == len(self.basis)

    @property
    def broken(self) -> bool:
        """Whether the subspace is invariant, as far as rounding lets one see."""
        size = length(self.matrix[: self.count, : self.count])
        return self.beyond <= 10 * torch.finfo(self.basis.dtype).eps * size / max(self.count, 1) ** 0.5

    def grow(self) -> None:
        """Take the next vector in, at the cost of a product."""
        k, v = self.count, self._next
        self.basis[k] = v
        w = self._product(v).to(v)
        self.products += 1
        self.lost = not bool(w.isfinite().all())
        if self.lost:
            return
        w, inside, leak = self._orthogonal(w, k + 1)
        self.matrix[: k + 1, k] = self.matrix[k, : k + 1] = inside
        self._leak[:, k] = leak
        self.count, self.beyond = k + 1, length(w)
        self._next = w / self.beyond if self.beyond else w

    def turn(self, vector: Tensor) -> None:
        """Go on from another vector, such as where the subspace is invariant."""
        w, _, _ = self._orthogonal(vector.to(self.basis), self.count)
        self._next = w / length(w)

    def ritz(self) -> Pairs:
        """What the subspace knows of the eigenvalues."""
        k = self.count
        values, coordinates = torch.linalg.eigh(self.matrix[:k, :k])
        out = self.beyond * coordinates[-1].abs()
        leak = (self._leak[:, :k] @ coordinates).square().sum(0)
        return Pairs(values, coordinates, (out.square() + leak).sqrt())

    def vectors(self, coordinates: Tensor) -> Tensor:
        """Unit vectors of coordinates, shape (k, j) to (j, n)."""
        return coordinates.T.to(self.basis) @ self.basis[: self.count]

    def restart(self, kept: Sequence[int]) -> None:
        """Give up all of the subspace but these Ritz vectors, and go on where it stood."""
        pairs, j = self.ritz(), len(kept)
        chosen = pairs.coordinates[:, list(kept)]
        self.basis[:j] = self.vectors(chosen)
        self._leak[:, :j] = self._leak[:, : self.count] @ chosen
        self.matrix.zero_()
        self.matrix[range(j), range(j)] = pairs.values[list(kept)]
        self.count = j
        self.turn(self._next)

    def _orthogonal(self, w: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """What of `w` is new, and what of it lies in the basis and in what is locked."""
        held, locked = self.basis[:count], self.locked
        inside, leak = torch.zeros(count, dtype=torch.float64), torch.zeros(len(locked), dtype=torch.float64)
        for _ in range(2):
            found, out = held @ w, locked @ w
            w = w - held.T @ found - locked.T @ out
            inside += found.to(inside)
            leak += out.to(leak)
        return w, inside, leak
