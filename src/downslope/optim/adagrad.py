"""AdaGrad: adaptive subgradients (Duchi, Hazan and Singer 2011), in the diagonal form."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Unpack

import torch
from torch import Tensor

from downslope.optim import ops
from downslope.optim.decay import CoupledDecay
from downslope.optim.domains import Domains, Interval
from downslope.optim.driver import Optimizer, Params
from downslope.optim.flow import Flow, Lists
from downslope.optim.native import Anatomy, Native, fused_adagrad
from downslope.optim.options import Options
from downslope.optim.rule import Chain, Rule, Scalar, Scalars, chain
from downslope.optim.scale import InverseTimeLr

__all__ = ["Adagrad", "ScaleBySum", "Sum"]


class Sum(NamedTuple):
    """State of AdaGrad."""

    s: Tensor
    """Sum of g**2 over all steps (the diagonal of the paper's G); shape and dtype of p."""


@dataclass(frozen=True, kw_only=True)
class ScaleBySum(Rule[Sum]):
    """Divides by the root of the sum of all squares: ``s = s + g**2``, ``g / (sqrt(s) + delta)``.

    delta is `eps` in [0, inf); s starts at `initial_accumulator_value` in [0, inf). One tensor of state.

    Differs from: the paper, where delta stands with s under no root either; TensorFlow, whose s starts at
    0.1.
    Source: Duchi, Hazan and Singer 2011, figure 1 with diag(G).
    """

    memory: ClassVar[type[tuple[Tensor, ...]]] = Sum
    lazy: ClassVar[bool] = True
    keys: ClassVar[tuple[str, ...]] = ("sum",)
    domains: ClassVar[Domains] = {
        "initial_accumulator_value": Interval(0.0, math.inf, "where the sum of g**2 starts", "0 is usual")
    }

    eps: Scalar = 1e-10
    initial_accumulator_value: Scalar = 0.0

    def init(self, p: Tensor) -> Sum:
        start = Scalars(s=self.initial_accumulator_value).fit(p).s
        return Sum(torch.zeros_like(p) + start)

    def at(self, t: int) -> Scalars:
        return Scalars(delta=self.eps)

    def update(self, g: Tensor, state: Sum, p: Tensor, k: Scalars) -> tuple[Tensor, Sum]:
        s = state.s + g * g
        return g / (s.sqrt() + k.delta), Sum(s)

    def eager(self, flow: Flow, state: Lists, p: list[Tensor], k: Scalars) -> Flow:
        (s,) = state
        g = flow.value(p)
        ops.foreach_addcmul_(s, g, g)
        root = ops.foreach_sqrt(s)
        ops.foreach_add_(root, k.delta)
        return Flow(g, root, owned=flow.fresh)

    def native(self, parts: Anatomy) -> Native | None:
        return fused_adagrad(parts, float(self.eps))


class Adagrad(Optimizer):
    """AdaGrad: ``s = s + g**2``, ``p = p - lr / (1 + lr_decay (t - 1)) g / (sqrt(s) + eps)``.

    Equivalent to ``torch.optim.Adagrad``: same arguments, defaults and state. One tensor of state per
    parameter.

    Args:
        params: parameters, named parameters, or groups of them.
        lr: step length in [0, inf); the first step of every element has this length.
        lr_decay: in [0, inf).
        weight_decay: coupled L2 decay in [0, inf).
        initial_accumulator_value: where s starts, in [0, inf).
        eps: in [0, inf).
        maximize: climb in place of descend.
        backend: ``"native"`` or another: see `Optimizer`; None for the fastest that fits.
        **options: rounding, dtypes, schedules; see `downslope.optim.options.Options`.

    Raises:
        RecipeError: a hyper-parameter outside its domain.

    Source: see `ScaleBySum`.
    """

    source = "Duchi, Hazan and Singer 2011, figure 1"
    implementation = ("foreach", "fused", "differentiable")
    domains: ClassVar[Domains] = {**ScaleBySum.domains, **InverseTimeLr.domains}

    def __init__(
        self,
        params: Params,
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        *,
        maximize: bool = False,
        backend: str | None = None,
        **options: Unpack[Options],
    ) -> None:
        settings = {
            "lr": lr,
            "lr_decay": lr_decay,
            "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value,
            "eps": eps,
            "maximize": maximize,
        }
        super().__init__(params, settings, backend=backend, implementation=options)

    @classmethod
    def compose(cls, settings: Mapping[str, Any]) -> Chain:
        return chain(
            CoupledDecay(weight_decay=settings["weight_decay"]),
            ScaleBySum(eps=settings["eps"], initial_accumulator_value=settings["initial_accumulator_value"]),
            InverseTimeLr(lr=settings["lr"], lr_decay=settings["lr_decay"]),
        )
