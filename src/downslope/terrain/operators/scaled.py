"""An operator seen through a diagonal scale, as an adaptive method or a group's own rate sees it."""

from __future__ import annotations

import torch
from torch import Tensor

from downslope.terrain.operators.operator import Operator


class Scaled:
    """``D^(1/2) (A + diag(shift)) D^(1/2)``, whose eigenvalues are those of ``D (A + diag(shift))``.

    Args:
        inner: A.
        root: ``D^(1/2)``, non-negative, shape (n,), in the precision and place of the vectors.
        shift: What is added to the diagonal of A, shape (n,); None for nothing.
    """

    def __init__(self, inner: Operator, root: Tensor, shift: Tensor | None = None) -> None:
        self.inner, self.root, self.shift, self.size = inner, root, shift, inner.size
        self.dtype: torch.dtype = root.dtype
        self.device: torch.device = root.device

    @property
    def exact(self) -> bool:
        """Whether the inner one is."""
        return self.inner.exact

    def product(self, vector: Tensor) -> Tensor:
        """The scaled matrix times `vector`."""
        seen = self.root * vector.to(self.root)
        found = self.inner.product(seen).to(self.root)
        return self.root * (found if self.shift is None else found + self.shift * seen)
