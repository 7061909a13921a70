"""What runs through the links of a chain in the eager backend: lists of tensors that no one has yet
multiplied out.

    step = scale * num / den + decay * p

Links that only scale, divide or decay change a number or a reference here, and memory is read once, at the
end, by torch's in-place list operations. A link that needs the values asks for `value`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from downslope.optim import ops

__all__ = ["Flow", "Lists"]

Lists = Sequence[list[Tensor]]
"""The columns of a state: for each of its fields, that field of every parameter."""


@dataclass(frozen=True, slots=True)
class Flow:
    """``scale * num / den + decay * p`` for a list of parameters; `den` None means 1."""

    num: list[Tensor]
    den: list[Tensor] | None = None
    scale: float = 1.0
    decay: float = 0.0
    owned: bool = False
    """Whether `num` is scratch that the next link may overwrite, not a gradient or a state."""

    def value(self, p: list[Tensor]) -> list[Tensor]:
        """The step multiplied out, in memory that is not the caller's unless nothing had to be done."""
        out = self.num if self.den is None else ops.foreach_div(self.num, self.den)
        mine = self.owned or self.den is not None
        if self.scale != 1.0:
            if mine:
                ops.foreach_mul_(out, self.scale)
            else:
                out, mine = ops.foreach_mul(out, self.scale), True
        if self.decay != 0.0:
            if mine:
                ops.foreach_add_(out, p, alpha=self.decay)
            else:
                out = ops.foreach_add(out, p, alpha=self.decay)
        return out

    @property
    def fresh(self) -> bool:
        """Whether `value` gives memory that the caller may overwrite."""
        return self.owned or self.den is not None or self.scale != 1.0 or self.decay != 0.0

    def add_to(self, into: list[Tensor], p: list[Tensor], factor: float) -> None:
        """``into += factor * step``, in one pass where no decay is under way."""
        if self.decay != 0.0:
            ops.foreach_add_(into, p, alpha=factor * self.decay)
        if self.den is None:
            ops.foreach_add_(into, self.num, alpha=factor * self.scale)
        else:
            ops.foreach_addcdiv_(into, self.num, self.den, value=factor * self.scale)

    def descend(self, p: list[Tensor]) -> None:
        """``p -= step``."""
        if self.decay != 0.0:
            ops.foreach_mul_(p, 1.0 - self.decay)
        if self.den is None:
            ops.foreach_add_(p, self.num, alpha=-self.scale)
        else:
            ops.foreach_addcdiv_(p, self.num, self.den, value=-self.scale)

    def scaled(self, factor: float) -> Flow:
        """The step times `factor`."""
        return replace(self, scale=self.scale * factor, decay=self.decay * factor)

    def decayed(self, rate: float) -> Flow:
        """The step with ``rate * p`` added."""
        return replace(self, decay=self.decay + rate)
