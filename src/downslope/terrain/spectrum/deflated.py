"""The part of an operator that a few directions hold, known exactly, and what is left of it for probes.

``A = Q Q'A + A Q Q' - Q Q'A Q Q' + P A P`` with ``P = I - Q Q'``: trace and diagonal of all but the last term
cost one product for each column of Q, and the variance of probes falls from ``2 |A|_F^2`` to ``2 |P A
P|_F^2`` (Meyer, Musco, Musco and Woodruff 2021, Hutch++: optimal stochastic trace estimation). Q is the range
of the products that were taken already.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from downslope.terrain.spectrum.operand import Operand


class Deflated:
    """An operator less the part in a subspace Q that can grow.

    Args:
        given: The operator.

    Attributes:
        rows: Q, orthonormal rows, shape (r, n).
        images: ``A Q``, shape (r, n).
        products: Products taken, all in all.
    """

    def __init__(self, given: Operand) -> None:
        self.given, self.products = given, 0
        self.rows = torch.empty((0, given.operator.size), dtype=given.dtype, device=given.device)
        self.images = self.rows

    def extend(self, images: Tensor) -> None:
        """Take the span of `images`, shape (k, n), into Q; a product for each direction that is new."""
        left = self.project(images)
        floor = 100 * torch.finfo(images.dtype).eps * float(images.square().sum(1).max().sqrt())
        q, triangle = torch.linalg.qr(left.T)
        kept = cast("Tensor", triangle).diagonal().abs() > floor
        new = orthonormal(self.project(cast("Tensor", q).T[kept]))
        taken = self.given.products(new)
        self.products += len(new)
        self.rows, self.images = torch.cat([self.rows, new]), torch.cat([self.images, taken])

    def project(self, vectors: Tensor) -> Tensor:
        """``P v`` of each row."""
        if not len(self.rows):
            return vectors
        vectors = vectors - (vectors @ self.rows.T) @ self.rows
        return vectors - (vectors @ self.rows.T) @ self.rows

    def apply(self, vectors: Tensor) -> Tensor:
        """``P A P v`` of each row, a product each."""
        self.products += len(vectors)
        return self.project(self.given.products(self.project(vectors)))

    def trace(self) -> float:
        """Of the part that is known."""
        return float((self.rows.double() * self.images.double()).sum())

    def diagonal(self) -> Tensor:
        """Of the part that is known, shape (n,), float64."""
        rows, images = self.rows.double(), self.images.double()
        return (2 * rows * images - rows * ((rows @ images.T) @ rows)).sum(0)


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
