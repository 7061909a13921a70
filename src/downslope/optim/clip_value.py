"""Clipping by value: no element of the gradient beyond a bound (torch.nn.utils.clip_grad_value_)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from downslope.optim.domains import ABOVE_ZERO, Domains, Interval
from downslope.optim.rule import Rule, Scalar, Scalars, Stateless

__all__ = ["ClipValue"]


@dataclass(frozen=True, kw_only=True)
class ClipValue(Rule[Stateless]):
    """Brings each element into ``[-c, c]``: ``min(max(g, -c), c)``. NaN stays NaN.

    c is `clip_value` in [0, inf]; inf, the default, clips nothing. No state.

    Differs from: `ClipNorm`, which keeps the direction of the gradient.
    Source: torch.nn.utils.clip_grad_value_; Mikolov 2012, "Statistical language models based on neural
    networks", section 3.2.2.
    """

    lazy: ClassVar[bool] = True
    domains: ClassVar[Domains] = {
        "clip_value": Interval(
            ABOVE_ZERO, math.inf, "the largest size of an element", "1 is usual", closed=True
        )
    }

    clip_value: Scalar = math.inf

    @property
    def idle(self) -> bool:
        return isinstance(self.clip_value, float) and self.clip_value == math.inf

    def init(self, p: Tensor) -> Stateless:
        return ()

    def at(self, t: int) -> Scalars:
        return Scalars(high=self.clip_value)

    def update(self, g: Tensor, state: Stateless, p: Tensor, k: Scalars) -> tuple[Tensor, Stateless]:
        beyond = g.abs() > k.high
        return torch.where(beyond, k.high * g.sign(), g), ()
