"""Adadelta: steps in the units of the parameters, without a rate (Zeiler 2012)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Unpack

import torch
from torch import Tensor

from downslope.optim.decay import CoupledDecay
from downslope.optim.domains import Domains, Interval
from downslope.optim.driver import Optimizer, Params
from downslope.optim.options import Options
from downslope.optim.rule import Chain, Rule, Scalar, Scalars, chain
from downslope.optim.scale import ScaleByLr

__all__ = ["Adadelta", "ScaleByDelta", "SquaresOfSteps"]

_RHO: Domains = {
    "rho": Interval(0.0, 1.0, "the decay of the means of squares", "0.9 to 0.95 is usual", closed=True)
}


class SquaresOfSteps(NamedTuple):
    """State of Adadelta."""

    v: Tensor
    """Moving average of g**2 (Zeiler's E[g^2]); shape and dtype of p."""
    u: Tensor
    """Moving average of the squared steps (Zeiler's E[dx^2]); shape and dtype of p."""


@dataclass(frozen=True, kw_only=True)
class ScaleByDelta(Rule[SquaresOfSteps]):
    """Multiplies by the root mean square of the steps so far over that of the gradients.

    ``v = rho v + (1 - rho) g**2``, ``d = sqrt(u + eps) / sqrt(v + eps) g``, ``u = rho u + (1 - rho) d**2``;
    returns d. `rho` lies in [0, 1], eps in [0, inf); eps stands under both roots, and is where the first
    steps come from: at eps 0 nothing ever moves. Two tensors of state per parameter.

    Differs from: the paper in nothing.
    Source: Zeiler 2012, "ADADELTA: an adaptive learning rate method", algorithm 1.
    """

    memory: ClassVar[type[tuple[Tensor, ...]]] = SquaresOfSteps
    keys: ClassVar[tuple[str, ...]] = ("square_avg", "acc_delta")
    counts: ClassVar[bool] = True  # the rule does not need it; torch's state has it
    domains: ClassVar[Domains] = _RHO

    rho: Scalar = 0.9
    eps: Scalar = 1e-6

    def init(self, p: Tensor) -> SquaresOfSteps:
        return SquaresOfSteps(torch.zeros_like(p), torch.zeros_like(p))

    def at(self, t: int) -> Scalars:
        return Scalars(keep=self.rho, gain=1.0 - self.rho, eps=self.eps)

    def update(
        self, g: Tensor, state: SquaresOfSteps, p: Tensor, k: Scalars
    ) -> tuple[Tensor, SquaresOfSteps]:
        v = k.keep * state.v + k.gain * (g * g)
        d = (state.u + k.eps).sqrt() / (v + k.eps).sqrt() * g
        u = k.keep * state.u + k.gain * (d * d)
        return d, SquaresOfSteps(v, u)


class Adadelta(Optimizer):
    """Adadelta: ``d = sqrt(u + eps) / sqrt(v + eps) g``, ``p = p - lr d``; u and v are means of d**2 and
    g**2.

    Equivalent to ``torch.optim.Adadelta``: same arguments, defaults and state. Two tensors of state per
    parameter.

    Args:
        params: parameters, named parameters, or groups of them.
        lr: factor on the step in [0, inf); the paper has none, which is 1.
        rho: decay of both means in [0, 1]; the paper has 0.95.
        eps: in [0, inf); it sets the length of the first steps.
        weight_decay: coupled L2 decay in [0, inf).
        maximize: climb in place of descend.
        backend: see `Optimizer`; torch has no fused kernel.
        **options: see `downslope.optim.options.Options`.

    Raises:
        RecipeError: a hyper-parameter outside its domain.

    Source: see `ScaleByDelta`.
    """

    source = "Zeiler 2012, algorithm 1"
    implementation = ("foreach", "capturable", "differentiable")
    domains: ClassVar[Domains] = _RHO

    def __init__(
        self,
        params: Params,
        lr: float = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
        backend: str | None = None,
        **options: Unpack[Options],
    ) -> None:
        settings = {"lr": lr, "rho": rho, "eps": eps, "weight_decay": weight_decay, "maximize": maximize}
        super().__init__(params, settings, backend=backend, implementation=options)

    @classmethod
    def compose(cls, settings: Mapping[str, Any]) -> Chain:
        return chain(
            CoupledDecay(weight_decay=settings["weight_decay"]),
            ScaleByDelta(rho=settings["rho"], eps=settings["eps"]),
            ScaleByLr(lr=settings["lr"]),
        )
