"""The part of an operator that a few directions hold, known exactly, and what is left of it for probes.

``A = Q Q'A + A Q Q' - Q Q'A Q Q' + P A P`` with ``P = I - Q Q'``: trace and diagonal of all but the last term
cost one product for each column of Q, and the variance of probes falls from ``2 |A|_F^2`` to ``2 |P A
P|_F^2`` (Meyer, Musco, Musco and Woodruff 2021, Hutch++: optimal stochastic trace estimation). Q is the range
of the products that were taken already.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import Tensor

from downslope.terrain.spectrum.operand import Operand

ROUNDINGS = 4
"""Roundings by which a product with a vector is off, in the length of what comes out."""


class Deflated:
    """An operator less the part in a subspace Q that can grow.

    Args:
        given: The operator.
        keep: Whether to remember every product, so that `completed` needs none of them again.

    Attributes:
        rows: Q, orthonormal rows, shape (r, n).
        images: ``A Q``, shape (r, n).
        products: Products taken, all in all.
    """

    def __init__(self, given: Operand, *, keep: bool = False) -> None:
        self.given, self.products = given, 0
        self._seen: list[tuple[Tensor, Tensor]] | None = [] if keep else None
        self.rows = torch.empty((0, given.operator.size), dtype=given.dtype, device=given.device)
        self.images = self.rows

    def extend(self, images: Tensor) -> None:
        """Take the span of `images`, shape (k, n), into Q; a product for each direction that is new."""
        left = self.project(images)
        floor = 100 * torch.finfo(images.dtype).eps * float(images.square().sum(1).max().sqrt())
        q, triangle = torch.linalg.qr(left.T)
        kept = cast("Tensor", triangle).diagonal().abs() > floor
        new = orthonormal(self.project(cast("Tensor", q).T[kept]))
        taken = self._taken(new)
        self.rows, self.images = torch.cat([self.rows, new]), torch.cat([self.images, taken])

    def project(self, vectors: Tensor) -> Tensor:
        """``P v`` of each row."""
        if not len(self.rows):
            return vectors
        vectors = vectors - (vectors @ self.rows.T) @ self.rows
        return vectors - (vectors @ self.rows.T) @ self.rows

    def apply(self, vectors: Tensor) -> Tensor:
        """``P A P v`` of each row, a product each."""
        return self.project(self._taken(self.project(vectors)))

    def _taken(self, vectors: Tensor) -> Tensor:
        self.products += len(vectors)
        images = self.given.products(vectors)
        if self._seen is not None:
            self._seen.append((vectors, images))
        return images

    @property
    def seen(self) -> list[tuple[Tensor, Tensor]]:
        """Vectors and their products, where they are kept."""
        return self._seen or []

    def trace(self) -> float:
        """Of the part that is known."""
        return float((self.rows.double() * self.images.double()).sum())

    def diagonal(self) -> Tensor:
        """Of the part that is known, shape (n,), float64."""
        rows, images = self.rows.double(), self.images.double()
        return (2 * rows * images - rows * ((rows @ images.T) @ rows)).sum(0)


class Completed(NamedTuple):
    """An operator known whole, in an orthonormal basis."""

    rows: Tensor
    """Shape (n, n), float64."""
    images: Tensor
    """Of the rows."""
    rounding: float
    """Standard error of the trace by the rounding of the products."""

    @property
    def diagonal(self) -> Tensor:
        """Shape (n,)."""
        return (self.rows * self.images).sum(0)


def completed(part: Deflated) -> Completed:
    """The whole operator: what was multiplied already, and a product for each direction that was not.

    The vectors V seen so far have the singular value decomposition ``U S Q'``; ``A Q = A V U / S`` needs no
    product, and what it adds to the rounding is counted.
    """
    given, size = part.given, part.given.operator.size
    rows = torch.empty((0, size), dtype=torch.float64, device=given.device)
    images, error = rows, torch.zeros(0, dtype=torch.float64, device=given.device)
    if seen := part.seen:
        vectors, known = (torch.cat(each).double() for each in zip(*seen, strict=True))
        u, scale, directions = cast("tuple[Tensor, Tensor, Tensor]", torch.linalg.svd(vectors, False))
        good = scale > 1e-6 * scale[0]
        rows, images = directions[good], (u.T @ known)[good] / scale[good, None]
        error = known.square().sum().sqrt() / len(known) ** 0.5 / scale[good]
    if len(rows) < size:
        basis = cast("Tensor", torch.linalg.qr(rows.T, mode="complete")[0]) if len(rows) else None
        new = torch.eye(size).to(rows) if basis is None else basis.T[len(rows) :]
        found = given.products(new.to(given.dtype)).double()
        part.products += len(new)
        rows, images = torch.cat([rows, new]), torch.cat([images, found])
        error = torch.cat([error, found.square().sum(1).sqrt()])
    return Completed(
        rows, images, ROUNDINGS * torch.finfo(given.dtype).eps * float(error.square().sum().sqrt())
    )


def orthonormal(rows: Tensor) -> Tensor:
    """Rows of the same span, of length 1 and at right angles, shape (k, n)."""
    return cast("Tensor", torch.linalg.qr(rows.T)[0]).T if len(rows) else rows


def uncaptured(images: Tensor) -> float:
    """The share of ``|A|_F^2`` that the span of k products with random vectors leaves out, about.

    The mean squared distance of each product from the span of the others, over their mean square: what a
    further random vector would show beyond them. No product is taken.

    Args:
        images: ``A z`` of k >= 2 random vectors z, shape (k, n).

    Returns:
        A share in [0, 1]; near 0 where a few directions hold the operator, near 1 where none do.
    """
    rows = images.double()
    gram = rows @ rows.T
    whole = float(gram.diagonal().mean())
    if not whole > 0 or whole != whole:
        return 0.0 if whole == 0 else 1.0
    floor = 1e-12 * whole
    lifted = gram + floor * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    inverse = cast("Tensor", torch.linalg.inv(lifted))
    return min(1.0, float((1 / inverse.diagonal()).clamp(min=0).mean()) / whole)
