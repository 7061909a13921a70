"""Heavy ball: momentum (Polyak 1964), in the form that torch.optim.SGD has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Unpack

import torch
from torch import Tensor

from downslope.optim import ops
from downslope.optim.decay import CoupledDecay
from downslope.optim.driver import Optimizer, Params
from downslope.optim.flow import Flow, Lists
from downslope.optim.native import Anatomy, Native, fused_sgd
from downslope.optim.options import Options
from downslope.optim.rule import Chain, Rule, Scalar, Scalars, chain
from downslope.optim.scale import ScaleByLr

__all__ = ["HeavyBall", "Momentum", "Velocity"]


class Velocity(NamedTuple):
    """State of momentum methods."""

    b: Tensor
    """Decaying sum of gradients; shape and dtype of p."""


@dataclass(frozen=True, kw_only=True)
class HeavyBall(Rule[Velocity]):
    """Keeps the last step in part: ``b = mu b + (1 - tau) g``, and returns ``b``; the first ``b`` is g
    itself.

    mu is `momentum` in [0, 1), tau is `dampening` in [0, 1]. One tensor of state per parameter.

    Differs from: Polyak's ``p_{t+1} - p_t = -lr g + mu (p_t - p_{t-1})`` only if lr changes, since lr stands
    outside of the sum here (as in torch); with tau = mu it is the exponential average, whose first value is
    not shrunk.
    Source: Polyak 1964, "Some methods of speeding up the convergence of iteration methods", eq. 9;
    Sutskever et al. 2013, eq. 1-2.
    """

    memory: ClassVar[type[tuple[Tensor, ...]]] = Velocity
    keys: ClassVar[tuple[str, ...]] = ("momentum_buffer",)
    counts: ClassVar[bool] = False  # only the first step is another: torch's state has no step

    momentum: Scalar = 0.9
    dampening: Scalar = 0.0

    @property
    def idle(self) -> bool:
        return isinstance(self.momentum, float) and self.momentum == 0.0

    def init(self, p: Tensor) -> Velocity:
        return Velocity(torch.zeros_like(p))

    def at(self, t: int) -> Scalars:
        return Scalars(mu=self.momentum, gain=1.0 if t == 1 else 1.0 - self.dampening)

    def update(self, g: Tensor, state: Velocity, p: Tensor, k: Scalars) -> tuple[Tensor, Velocity]:
        b = k.mu * state.b + k.gain * g
        return b, Velocity(b)

    def eager(self, flow: Flow, state: Lists, p: list[Tensor], k: Scalars) -> Flow:
        (b,) = state
        ops.foreach_mul_(b, k.mu)
        flow.add_to(b, p, float(k.gain))
        return Flow(b)

    def native(self, parts: Anatomy) -> Native | None:
        return fused_sgd(parts, float(self.momentum), float(self.dampening), nesterov=False)


class Momentum(Optimizer):
    """Gradient descent with heavy-ball momentum: ``b = mu b + g``, ``p = p - lr b``.

    The effective step on a steady gradient is ``lr / (1 - momentum)``. Equivalent to
    ``torch.optim.SGD(params, lr, momentum)``. One tensor of state per parameter.

    Args:
        params: parameters, named parameters, or groups of them.
        lr: step length in [0, inf); torch.optim.SGD's default.
        momentum: mu in [0, 1); 0.9 is what Sutskever et al. start from.
        weight_decay: coupled L2 decay in [0, inf).
        maximize: climb in place of descend.
        backend: ``"native"`` or another: see `Optimizer`; None for the fastest that fits.
        **options: rounding, dtypes, schedules; see `downslope.optim.options.Options`.

    Raises:
        RecipeError: a hyper-parameter outside its domain.

    Source: see `HeavyBall`.
    """

    source = "Polyak 1964, eq. 9"
    fixed: ClassVar[Mapping[str, Any]] = {"dampening": 0.0, "nesterov": False}
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
            HeavyBall(momentum=settings["momentum"]),
            ScaleByLr(lr=settings["lr"]),
        )
