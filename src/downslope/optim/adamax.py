"""AdaMax: Adam with the largest gradient in place of the mean square (Kingma and Ba 2015, algorithm 2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Unpack

import torch
from torch import Tensor

from downslope.optim.decay import CoupledDecay
from downslope.optim.driver import Optimizer, Params
from downslope.optim.options import Options
from downslope.optim.rule import Chain, Rule, Scalar, Scalars, chain
from downslope.optim.scale import ScaleByLr

__all__ = ["Adamax", "MeanAndLargest", "ScaleByLargest"]


class MeanAndLargest(NamedTuple):
    """State of AdaMax."""

    m: Tensor
    """Moving average of g; shape and dtype of p."""
    u: Tensor
    """Decaying maximum of |g|; shape and dtype of p."""


@dataclass(frozen=True, kw_only=True)
class ScaleByLargest(Rule[MeanAndLargest]):
    """Divides the debiased mean gradient by the largest seen: ``m / (1 - b1**t) / u``.

    ``m = b1 m + (1 - b1) g``, ``u = max(b2 u, |g| + eps)``: a gradient is forgotten by the factor b2 a step.
    b1 and b2 are `betas`, each in [0, 1); eps lies in [0, inf). Two tensors of state per parameter.

    Differs from: the paper, which has no eps, and so divides by zero where every gradient was zero; torch's
    form here. NaN in a gradient stays, as in torch.
    Source: Kingma and Ba 2015, algorithm 2.
    """

    memory: ClassVar[type[tuple[Tensor, ...]]] = MeanAndLargest
    keys: ClassVar[tuple[str, ...]] = ("exp_avg", "exp_inf")
    counts: ClassVar[bool] = True

    betas: tuple[Scalar, Scalar] = (0.9, 0.999)
    eps: Scalar = 1e-8

    def init(self, p: Tensor) -> MeanAndLargest:
        return MeanAndLargest(torch.zeros_like(p), torch.zeros_like(p))

    def at(self, t: int) -> Scalars:
        b1, b2 = self.betas
        return Scalars(b1=b1, b2=b2, gain1=1.0 - b1, unbias1=1.0 / (1.0 - b1**t), eps=self.eps)

    def update(
        self, g: Tensor, state: MeanAndLargest, p: Tensor, k: Scalars
    ) -> tuple[Tensor, MeanAndLargest]:
        m = k.b1 * state.m + k.gain1 * g
        u = torch.maximum(k.b2 * state.u, g.abs() + k.eps)
        return k.unbias1 * m / u, MeanAndLargest(m, u)


class Adamax(Optimizer):
    """AdaMax: ``p = p - lr m / ((1 - b1**t) u)``, with ``u = max(b2 u, |g| + eps)`` and m the mean gradient.

    Equivalent to ``torch.optim.Adamax``: same arguments, defaults and state. No step is longer than about
    ``lr``. Two tensors of state per parameter.

    Args:
        params: parameters, named parameters, or groups of them.
        lr: step length in [0, inf); the paper's default.
        betas: decay of the mean and of the maximum, each in [0, 1).
        eps: in [0, inf).
        weight_decay: coupled L2 decay in [0, inf).
        maximize: climb in place of descend.
        backend: see `Optimizer`; torch has no fused kernel.
        **options: see `downslope.optim.options.Options`.

    Raises:
        RecipeError: a hyper-parameter outside its domain.

    Source: see `ScaleByLargest`.
    """

    source = "Kingma and Ba 2015, algorithm 2"
    implementation = ("foreach", "capturable", "differentiable")

    def __init__(
        self,
        params: Params,
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
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
            "maximize": maximize,
        }
        super().__init__(params, settings, backend=backend, implementation=options)

    @classmethod
    def compose(cls, settings: Mapping[str, Any]) -> Chain:
        return chain(
            CoupledDecay(weight_decay=settings["weight_decay"]),
            ScaleByLargest(betas=settings["betas"], eps=settings["eps"]),
            ScaleByLr(lr=settings["lr"]),
        )
