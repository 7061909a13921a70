"""Nesterov's accelerated gradient, in the form that torch.optim.SGD(nesterov=True) has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Unpack

import torch
from torch import Tensor

from downslope.optim import ops
from downslope.optim.decay import CoupledDecay
from downslope.optim.driver import Optimizer, Params
from downslope.optim.flow import Flow, Lists
from downslope.optim.momentum import Velocity
from downslope.optim.native import Anatomy, Native, fused_sgd
from downslope.optim.options import Options
from downslope.optim.rule import Chain, Rule, Scalar, Scalars, chain
from downslope.optim.scale import ScaleByLr

__all__ = ["LookAhead", "Nesterov"]


@dataclass(frozen=True, kw_only=True)
class LookAhead(Rule[Velocity]):
    """Momentum, one step ahead: ``b = mu b + g``, and returns ``g + mu b``; the first ``b`` is g.

    mu is `momentum` in [0, 1). One tensor of state per parameter.

    Differs from: Nesterov's own, which evaluates the gradient at the point ahead; here p *is* the point ahead
    (a change of variables, exact for constant lr), as in torch. mu is constant, not the paper's
    ``(t-1)/(t+2)``.
    Source: Nesterov 1983; Sutskever et al. 2013, eq. 3-4; the form of Bengio et al. 2012, eq. 7.
    """

    memory: ClassVar[type[tuple[Tensor, ...]]] = Velocity
    keys: ClassVar[tuple[str, ...]] = ("momentum_buffer",)

    momentum: Scalar = 0.9

    @property
    def idle(self) -> bool:
        return isinstance(self.momentum, float) and self.momentum == 0.0

    def init(self, p: Tensor) -> Velocity:
        return Velocity(torch.zeros_like(p))

    def at(self, t: int) -> Scalars:
        return Scalars(mu=self.momentum)

    def update(self, g: Tensor, state: Velocity, p: Tensor, k: Scalars) -> tuple[Tensor, Velocity]:
        b = k.mu * state.b + g
        return g + k.mu * b, Velocity(b)

    def eager(self, flow: Flow, state: Lists, p: list[Tensor], k: Scalars) -> Flow:
        (b,) = state
        g = flow.value(p)
        ops.foreach_mul_(b, k.mu)
        ops.foreach_add_(b, g)
        if flow.fresh:
            ops.foreach_add_(g, b, alpha=k.mu)
            return Flow(g, owned=True)
        return Flow(ops.foreach_add(g, b, alpha=k.mu), owned=True)

    def native(self, parts: Anatomy) -> Native | None:
        return fused_sgd(parts, float(self.momentum), 0.0, nesterov=True)


class Nesterov(Optimizer):
    """Nesterov's accelerated gradient: ``b = mu b + g``, ``p = p - lr (g + mu b)``.

    Equivalent to ``torch.optim.SGD(params, lr, momentum, nesterov=True)``. One tensor of state per parameter.

    Args:
        params: parameters, named parameters, or groups of them.
        lr: step length in [0, inf); torch.optim.SGD's default.
        momentum: mu in [0, 1); 0.9 is usual.
        weight_decay: coupled L2 decay in [0, inf).
        maximize: climb in place of descend.
        backend: ``"native"`` or another: see `Optimizer`; None for the fastest that fits.
        **options: rounding, dtypes, schedules; see `downslope.optim.options.Options`.

    Raises:
        RecipeError: a hyper-parameter outside its domain.

    Source: see `LookAhead`.
    """

    source = "Nesterov 1983; Sutskever et al. 2013, eq. 3-4"
    fixed: ClassVar[Mapping[str, Any]] = {"dampening": 0.0, "nesterov": True}
    kin: ClassVar[str] = "SGD"

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
        backend: str | None = None,
        **options: Unpack[Options],
    ) -> None:
        settings = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "maximize": maximize}
        super().__init__(params, settings, backend=backend, implementation=options)

    @classmethod
    def compose(cls, settings: Mapping[str, Any]) -> Chain:
        return chain(
            CoupledDecay(weight_decay=settings["weight_decay"]),
            LookAhead(momentum=settings["momentum"]),
            ScaleByLr(lr=settings["lr"]),
        )
