"""The last link of a chain: multiply by the learning rate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from downslope.optim.domains import Domains, Interval
from downslope.optim.flow import Flow, Lists
from downslope.optim.rule import Rule, Scalar, Scalars, Stateless

__all__ = ["InverseTimeLr", "ScaleByLr"]


@dataclass(frozen=True, kw_only=True)
class ScaleByLr(Rule[Stateless]):
    """``lr g``. Alone it is gradient descent: ``p - lr g``. `lr` lies in [0, inf).

    Source: Cauchy 1847; Robbins and Monro 1951 for stochastic gradients.
    """

    lazy: ClassVar[bool] = True

    lr: Scalar = 1e-3

    def init(self, p: Tensor) -> Stateless:
        return ()

    def at(self, t: int) -> Scalars:
        return Scalars(lr=self.lr)

    def update(self, g: Tensor, state: Stateless, p: Tensor, k: Scalars) -> tuple[Tensor, Stateless]:
        return k.lr * g, ()

    def eager(self, flow: Flow, state: Lists, p: list[Tensor], k: Scalars) -> Flow:
        return flow.scaled(float(k.lr))


@dataclass(frozen=True, kw_only=True)
class InverseTimeLr(Rule[Stateless]):
    """``lr / (1 + lr_decay (t - 1)) g`` at step t from 1. `lr` and `lr_decay` lie in [0, inf).

    Source: Robbins and Monro 1951 (steps that sum to infinity, squares that do not); torch.optim.Adagrad's
    form.
    """

    lazy: ClassVar[bool] = True
    counts: ClassVar[bool] = True

    domains: ClassVar[Domains] = {
        "lr_decay": Interval(
            0.0, math.inf, "the rate at which lr falls, 1 / (1 + lr_decay (t - 1))", "0 is usual"
        )
    }

    lr: Scalar = 1e-2
    lr_decay: Scalar = 0.0

    def init(self, p: Tensor) -> Stateless:
        return ()

    def at(self, t: int) -> Scalars:
        return Scalars(lr=self.lr / (1.0 + (t - 1) * self.lr_decay))

    def update(self, g: Tensor, state: Stateless, p: Tensor, k: Scalars) -> tuple[Tensor, Stateless]:
        return k.lr * g, ()

    def eager(self, flow: Flow, state: Lists, p: list[Tensor], k: Scalars) -> Flow:
        return flow.scaled(float(k.lr))
