"""Orthogonal initialisation (Saxe, McClelland and Ganguli 2014)."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from downslope.init.draw import fans


@torch.no_grad()
def orthogonal(weight: Tensor, generator: torch.Generator | None = None) -> None:
    """Fill with a random matrix of orthonormal rows, or columns where there are more rows, in place.

    Every singular value is 1, so a linear signal keeps its length through any number of layers, not only on
    average. Uniform over all such matrices: the signs of R's diagonal are moved into Q (Mezzadri 2007).
    A complex weight becomes unitary. Equivalent to `torch.nn.init.orthogonal_`.

    Args:
        weight: shape (out, in, ...), taken as an out by in * kernel matrix.
        generator: of the draws, on the CPU; by default torch's own.

    Raises:
        ModelError: fewer than two axes.
    """
    fans(weight)
    rows, columns = weight.shape[0], weight[0].numel()
    kind = torch.complex128 if weight.is_complex() else torch.float64
    drawn = torch.randn(max(rows, columns), min(rows, columns), generator=generator, dtype=kind)
    linalg: Any = torch.linalg
    q, r = cast("tuple[Tensor, Tensor]", linalg.qr(drawn))
    q = q * torch.sgn(torch.diagonal(r))
    weight.copy_((q if rows >= columns else q.T).reshape(weight.shape))
