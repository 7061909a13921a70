"""Adam: adaptive moment estimation (Kingma and Ba 2015, algorithm 1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Unpack

import torch
from torch import Tensor

from downslope.optim import ops
from downslope.optim.amsgrad import ScaleByAmsgrad
from downslope.optim.decay import CoupledDecay
from downslope.optim.driver import Optimizer, Params
from downslope.optim.flow import Flow, Lists
from downslope.optim.implementation import IMPLEMENTATION
from downslope.optim.native import Anatomy, Native, fused_adam
from downslope.optim.options import Options
from downslope.optim.rule import Chain, Rule, Scalar, Scalars, chain
from downslope.optim.scale import ScaleByLr

__all__ = ["Adam", "Moments", "ScaleByAdam", "moments_at"]


class Moments(NamedTuple):
    """State of Adam."""

    m: Tensor
    """Moving average of g; shape and dtype of p."""
    v: Tensor
    """Moving average of g**2; shape and dtype of p."""


def moments_at(t: int, b1: Scalar, b2: Scalar, eps: Scalar) -> Scalars:
    """The scalars of Adam's step `t`."""
    return Scalars(
        b1=b1,
        b2=b2,
        gain1=1.0 - b1,
        gain2=1.0 - b2,
        unbias1=1.0 / (1.0 - b1**t),
        unbias2=1.0 / (1.0 - b2**t),
        eps=eps,
    )


@dataclass(frozen=True, kw_only=True)
class ScaleByAdam(Rule[Moments]):
    """Divides the mean gradient by its root mean square, both debiased: ``mhat / (sqrt(vhat) + eps)``.

    ``m = b1 m + (1 - b1) g``, ``v = b2 v + (1 - b2) g**2``, ``mhat = m / (1 - b1**t)``, ``vhat = v / (1 -
    b2**t)``. b1 and b2 are `betas`, each in [0, 1); eps lies in [0, inf). Two tensors of state per parameter.

    Differs from: the paper's section 2 shortcut and TensorFlow, whose eps is not debiased with v.
    Source: Kingma and Ba 2015, algorithm 1.
    """

    memory: ClassVar[type[tuple[Tensor, ...]]] = Moments
    lazy: ClassVar[bool] = True
    keys: ClassVar[tuple[str, ...]] = ("exp_avg", "exp_avg_sq")
    counts: ClassVar[bool] = True

    betas: tuple[Scalar, Scalar] = (0.9, 0.999)
    eps: Scalar = 1e-8

    def init(self, p: Tensor) -> Moments:
        return Moments(torch.zeros_like(p), torch.zeros_like(p))

    def at(self, t: int) -> Scalars:
        return moments_at(t, *self.betas, self.eps)

    def update(self, g: Tensor, state: Moments, p: Tensor, k: Scalars) -> tuple[Tensor, Moments]:
        m = k.b1 * state.m + k.gain1 * g
        v = k.b2 * state.v + k.gain2 * (g * g)
        mhat = k.unbias1 * m
        vhat = k.unbias2 * v
        return mhat / (vhat.sqrt() + k.eps), Moments(m, v)

    def eager(self, flow: Flow, state: Lists, p: list[Tensor], k: Scalars) -> Flow:
        m, v = state
        g = flow.value(p)
        ops.foreach_lerp_(m, g, k.gain1)
        ops.foreach_mul_(v, k.b2)
        ops.foreach_addcmul_(v, g, g, value=k.gain2)
        root = ops.foreach_sqrt(v)
        ops.foreach_mul_(root, k.unbias2**0.5)
        ops.foreach_add_(root, k.eps)
        return Flow(m, root, scale=float(k.unbias1))

    def native(self, parts: Anatomy) -> Native | None:
        return fused_adam(parts, float(self.betas[0]), float(self.betas[1]), float(self.eps))


class Adam(Optimizer):
    """Adam: ``p = p - lr mhat / (sqrt(vhat) + eps)``, see `ScaleByAdam`.

    Equivalent to ``torch.optim.Adam``: same arguments, defaults and state. Two tensors of state per
    parameter.

    Args:
        params: parameters, named parameters, or groups of them.
        lr: step length in [0, inf), about the most that any element moves in one step; the paper's 0.001.
        betas: decays of the two means, each in [0, 1); the paper's.
        eps: in [0, inf); the paper's.
        weight_decay: coupled L2 decay in [0, inf): it is divided by sqrt(vhat) too. See `AdamW`.
        amsgrad: divide by the largest second moment seen, see `ScaleByAmsgrad`; a third tensor of state.
        maximize: climb in place of descend.
        backend: ``"native"`` or another: see `Optimizer`; None for the fastest that fits.
        **options: rounding, dtypes, schedules; see `downslope.optim.options.Options`.

    Raises:
        RecipeError: a hyper-parameter outside its domain.

    Differs from: torch's class in `decoupled_weight_decay`, which is only taken where it is False: else it is
        `AdamW`; and in sparse gradients, which torch refuses: here the rows that they name take the step, and
        means of the others wait, as in `SparseAdam` but for eps.
    Source: see `ScaleByAdam`; with amsgrad Reddi, Kale and Kumar 2018, algorithm 2.
    """

    source = "Kingma and Ba 2015, algorithm 1; amsgrad: Reddi and others 2018, algorithm 2"
    implementation = IMPLEMENTATION
    fixed: ClassVar[Mapping[str, Any]] = {"decoupled_weight_decay": False}

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        backend: str | None = None,
        **options: Unpack[Options],
    ) -> None:
        settings = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
            "maximize": maximize,
        }
        super().__init__(params, settings, backend=backend, implementation=options)

    @classmethod
    def compose(cls, settings: Mapping[str, Any]) -> Chain:
        scale = ScaleByAmsgrad if settings["amsgrad"] else ScaleByAdam
        return chain(
            CoupledDecay(weight_decay=settings["weight_decay"]),
            scale(betas=settings["betas"], eps=settings["eps"]),
            ScaleByLr(lr=settings["lr"]),
        )
