"""AMSGrad: Adam that divides by the largest second moment seen (Reddi, Kale and Kumar 2018, algorithm 2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from downslope.optim import ops
from downslope.optim.flow import Flow, Lists
from downslope.optim.native import Anatomy, Native, fused_adam
from downslope.optim.rule import Rule, Scalar, Scalars

__all__ = ["LargestMoments", "ScaleByAmsgrad"]


class LargestMoments(NamedTuple):
    """State of AMSGrad."""

    m: Tensor
    """Moving average of g; shape and dtype of p."""
    v: Tensor
    """Moving average of g**2; shape and dtype of p."""
    top: Tensor
    """Largest v so far; shape and dtype of p."""


@dataclass(frozen=True, kw_only=True)
class ScaleByAmsgrad(Rule[LargestMoments]):
    """Divides the mean gradient by the root of the largest mean square seen: ``mhat / (sqrt(that) + eps)``.

    ``m = b1 m + (1 - b1) g``, ``v = b2 v + (1 - b2) g**2``, ``top = max(top, v)``, ``mhat = m / (1 -
    b1**t)``, ``that = top / (1 - b2**t)``. b1 and b2 are `betas`, each in [0, 1); eps lies in [0, inf).
    Three tensors of state per parameter. No element's rate grows again but by the debiasing.

    Differs from: the paper, which debiases neither mean and has no eps; torch's form here.
    Source: Reddi, Kale and Kumar 2018, "On the convergence of Adam and beyond", algorithm 2.
    """

    memory: ClassVar[type[tuple[Tensor, ...]]] = LargestMoments
    lazy: ClassVar[bool] = True
    keys: ClassVar[tuple[str, ...]] = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")
    counts: ClassVar[bool] = True

    betas: tuple[Scalar, Scalar] = (0.9, 0.999)
    eps: Scalar = 1e-8

    def init(self, p: Tensor) -> LargestMoments:
        return LargestMoments(torch.zeros_like(p), torch.zeros_like(p), torch.zeros_like(p))

    def at(self, t: int) -> Scalars:
        b1, b2 = self.betas
        return Scalars(
            b1=b1,
            b2=b2,
            gain1=1.0 - b1,
            gain2=1.0 - b2,
            unbias1=1.0 / (1.0 - b1**t),
            unbias2=1.0 / (1.0 - b2**t),
            eps=self.eps,
        )

    def update(
        self, g: Tensor, state: LargestMoments, p: Tensor, k: Scalars
    ) -> tuple[Tensor, LargestMoments]:
        m = k.b1 * state.m + k.gain1 * g
        v = k.b2 * state.v + k.gain2 * (g * g)
        top = state.top.maximum(v)
        mhat = k.unbias1 * m
        that = k.unbias2 * top
        return mhat / (that.sqrt() + k.eps), LargestMoments(m, v, top)

    def eager(self, flow: Flow, state: Lists, p: list[Tensor], k: Scalars) -> Flow:
        m, v, top = state
        g = flow.value(p)
        ops.foreach_lerp_(m, g, k.gain1)
        ops.foreach_mul_(v, k.b2)
        ops.foreach_addcmul_(v, g, g, value=k.gain2)
        ops.foreach_maximum_(top, v)
        root = ops.foreach_sqrt(top)
        ops.foreach_mul_(root, k.unbias2**0.5)
        ops.foreach_add_(root, k.eps)
        return Flow(m, root, scale=float(k.unbias1))

    def native(self, parts: Anatomy) -> Native | None:
        return fused_adam(parts, float(self.betas[0]), float(self.betas[1]), float(self.eps), amsgrad=True)
