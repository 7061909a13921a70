"""Box: every entry between two bounds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from downslope.constraints.constraint import By, Constraint, number
from downslope.core.errors import InputError

MARGIN = 0.05
"""Share of the range that a start keeps from each bound: a sigmoid has a fifth of its largest slope there."""


@dataclass(frozen=True, kw_only=True)
class Box(Constraint):
    """``{w : lo <= w_i <= hi}``, convex; projection ``min(max(w, lo), hi)``.

    Args:
        lo: Lower bound, in [-inf, inf).
        hi: Upper bound, in [lo, inf].
    """

    name: ClassVar[str] = "box"
    convex: ClassVar[bool | None] = True
    lo: float = 0.0
    hi: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for what in ("lo", "hi"):
            object.__setattr__(self, what, number("box", what, getattr(self, what)))
        if self.lo > self.hi or self.lo == math.inf or self.hi == -math.inf:
            raise InputError(
                f"box({self.lo:g}, {self.hi:g}): holds no point: the lower bound comes first, box(-1, 1)"
            )

    def project(self, w: Tensor) -> Tensor:
        """Entry by entry to the nearer bound."""
        return w.clamp(self.lo, self.hi)

    def start(self, w: Tensor) -> Tensor:
        """Mirrored at the one bound that there is; of two at least a twentieth of the range inside."""
        if math.isinf(self.hi):
            return self.lo + (w - self.lo).abs()
        if math.isinf(self.lo):
            return self.hi - (self.hi - w).abs()
        inside = MARGIN * (self.hi - self.lo)
        return w.clamp(self.lo + inside, self.hi - inside)

    def map(self, w: Tensor) -> nn.Module:
        """A sigmoid between two bounds, a softplus above one, none without."""
        del w
        return _Between(self.lo, self.hi)

    def __str__(self) -> str:
        text = super().__str__()
        if (self.lo, self.hi) != (0.0, math.inf):
            return text.replace("inf", "float('inf')") if math.inf in (-self.lo, self.hi) else text
        rest = text.removeprefix("box(0, inf").removesuffix(")").removeprefix(", ")
        return f"non_negative({rest})" if rest else "non_negative"


class _Between(nn.Module):
    """``lo + (hi - lo) sigmoid(v)``, or a softplus from the one bound that there is."""

    INSIDE = 1e-4
    """Share of the range by which a weight on a bound, where no number leads, is moved inside."""

    def __init__(self, lo: float, hi: float) -> None:
        super().__init__()
        self.lo, self.hi = lo, hi

    def forward(self, v: Tensor) -> Tensor:
        """Inside the box."""
        if math.isinf(self.lo) and math.isinf(self.hi):
            return v
        if math.isinf(self.hi):
            return self.lo + functional.softplus(v)
        if math.isinf(self.lo):
            return self.hi - functional.softplus(v)
        return self.lo + (self.hi - self.lo) * v.sigmoid()

    def right_inverse(self, w: Tensor) -> Tensor:
        """The free numbers of a weight; one on a bound is moved a little inside."""
        if math.isinf(self.lo) and math.isinf(self.hi):
            return w
        if math.isinf(self.hi) or math.isinf(self.lo):
            above = (w - self.lo if math.isinf(self.hi) else self.hi - w).clamp_min(self.INSIDE)
            return above + torch.log(-torch.expm1(-above))
        share = ((w - self.lo) / (self.hi - self.lo)).clamp(self.INSIDE, 1 - self.INSIDE)
        return share.logit()


def box(
    lo: float = 0.0, hi: float = 1.0, *, params: str | tuple[str, ...] = (), by: By = "projection"
) -> Box:
    """``lo <= w_i <= hi`` for every entry; a bound may be infinite.

    Args:
        lo: Lower bound.
        hi: Upper bound.
        params: Which parameters; all weights if left out.
        by: "projection" or "parametrisation".
    """
    return Box(lo=lo, hi=hi, params=params, by=by)


def non_negative(*, params: str | tuple[str, ...] = (), by: By = "projection") -> Box:
    """``w_i >= 0`` for every entry; non-negative least squares, parts that only add up.

    Args:
        params: Which parameters; all weights if left out.
        by: "projection" or "parametrisation".
    """
    return Box(lo=0.0, hi=math.inf, params=params, by=by)
