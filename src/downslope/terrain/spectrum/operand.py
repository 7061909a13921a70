"""What every estimator asks of an operator before its first product: precision, device, random vectors."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from downslope.core.errors import InputError
from downslope.terrain.operators import Operator
from downslope.terrain.operators.views import kind_of


class Operand(NamedTuple):
    """An operator with the precision and place in which its products are taken."""

    operator: Operator
    dtype: torch.dtype
    """float32 at least."""
    device: torch.device

    def product(self, vector: Tensor) -> Tensor:
        """The matrix times `vector`, in the precision of the vectors."""
        return self.operator.product(vector).to(vector)

    def products(self, rows: Tensor) -> Tensor:
        """The matrix times each row, shape (k, n)."""
        return torch.stack([self.product(row) for row in rows]) if len(rows) else rows

    def normal(self, draw: torch.Generator, count: int = 1) -> Tensor:
        """Rows of standard normal numbers, the same ones on every device; shape (count, n)."""
        drawn = torch.randn(count, self.operator.size, generator=draw, dtype=torch.float64)
        return drawn.to(self.device, self.dtype)

    def signs(self, draw: torch.Generator, count: int = 1) -> Tensor:
        """Rows of -1 and 1, each with probability 1/2 (Rademacher); shape (count, n)."""
        drawn = torch.randint(0, 2, (count, self.operator.size), generator=draw, dtype=torch.int8)
        return (2 * drawn - 1).to(self.device, self.dtype)


def operand(operator: Operator) -> Operand:
    """The operator, in the precision of its parameters; in float64 on the CPU where it names none.

    Raises:
        InputError: it has no rows.
    """
    if operator.size < 1:
        raise InputError("an operator of size 0 has no spectrum")
    dtype, device = kind_of(operator)
    return Operand(operator, torch.promote_types(dtype, torch.float32), device)
