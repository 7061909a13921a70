"""Simplex: rows of shares that sum to a total (Duchi, Shalev-Shwartz, Singer and Chandra 2008, ICML)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from downslope.constraints.constraint import By, Constraint, number, rows


@dataclass(frozen=True, kw_only=True)
class Simplex(Constraint):
    """``{W : w_ij >= 0, sum_j w_ij = total}``, row by row, convex.

    The projection is ``max(w - t, 0)`` with the t at which a row sums to `total`, found by sorting (figure 1
    of the paper).

    Args:
        total: In (0, inf); 1 makes mixtures of each row.
    """

    name: ClassVar[str] = "simplex"
    convex: ClassVar[bool | None] = True
    total: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "total", number("simplex", "total", self.total, positive=True))

    def project(self, w: Tensor) -> Tensor:
        """Every row to its nearest shares."""
        flat = rows(w)
        down = flat.sort(dim=1, descending=True).values
        above = down.cumsum(1) - self.total
        count = torch.arange(1, flat.shape[1] + 1, dtype=w.dtype, device=w.device)
        last = (down * count > above).sum(1, keepdim=True).clamp_min(1)
        t = above.gather(1, last - 1) / last.to(w.dtype)
        return (flat - t).clamp_min(0).reshape(w.shape)

    def start(self, w: Tensor) -> Tensor:
        """A tenth of the way from the nearest shares to equal ones: a softmax hardly moves a share near 0."""
        return 0.9 * self.project(w) + 0.1 * self.total / rows(w).shape[1]

    def map(self, w: Tensor) -> nn.Module:
        """A softmax of every row: shares that are never 0."""
        del w
        return _Shares(self.total)


class _Shares(nn.Module):
    def __init__(self, total: float) -> None:
        super().__init__()
        self.total = total

    def forward(self, v: Tensor) -> Tensor:
        """Inside the simplex."""
        return (self.total * rows(v).softmax(1)).reshape(v.shape)

    def right_inverse(self, w: Tensor) -> Tensor:
        """The free numbers of a weight; a share of 0 becomes a small one."""
        return (rows(w) / self.total).clamp_min(1e-4).log().reshape(w.shape)


def simplex(total: float = 1.0, *, params: str | tuple[str, ...] = (), by: By = "projection") -> Simplex:
    """Rows of shares: non-negative, with the sum `total`.

    Args:
        total: In (0, inf).
        params: Which parameters; all weights if left out.
        by: "projection" or "parametrisation".
    """
    return Simplex(total=total, params=params, by=by)
