"""Momentum as an exponential average: the gradient enters with factor 1 - beta, from a start at zero."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Unpack

import torch
from torch import Tensor

from downslope.optim.decay import CoupledDecay
from downslope.optim.domains import Domains, Interval, Switch
from downslope.optim.driver import Optimizer, Params
from downslope.optim.native import Anatomy, Native, fused_sgd
from downslope.optim.options import Options
from downslope.optim.rule import Chain, Rule, Scalar, Scalars, chain
from downslope.optim.scale import ScaleByLr

__all__ = ["AveragedMomentum", "Mean", "MovingAverage"]


class Mean(NamedTuple):
    """State of a moving average."""

    m: Tensor
    """Moving average of g; shape and dtype of p."""


_DEBIAS: Domains = {"debias": Switch("divide by 1 - beta**t, so that the start at zero is no weight")}


@dataclass(frozen=True, kw_only=True)
class MovingAverage(Rule[Mean]):
    """The exponential average of what comes: ``m = beta m + (1 - beta) g`` from ``m = 0``, and returns ``m``.

    beta lies in [0, 1). With `debias` it returns ``m / (1 - beta**t)``, an average whose weights sum to 1
    from the first step on. Its window is about ``1 / (1 - beta)`` steps. One tensor of state per parameter.

    Differs from: `HeavyBall`, which adds g with factor 1 (a step ``1 / (1 - beta)`` times as long), and whose
    first b is g even with ``dampening = momentum``; here the first m is ``(1 - beta) g``, as in lectures.
    Source: Kingma and Ba 2015, algorithm 1, the first moment.
    """

    memory: ClassVar[type[tuple[Tensor, ...]]] = Mean
    keys: ClassVar[tuple[str, ...]] = ("exp_avg",)
    counts: ClassVar[bool] = True
    domains: ClassVar[Domains] = {
        "beta": Interval(0.0, 1.0, "the decay of a mean", "0.9 is usual"),
        **_DEBIAS,
    }

    beta: Scalar = 0.9
    debias: bool = False

    @property
    def idle(self) -> bool:
        return isinstance(self.beta, float) and self.beta == 0.0

    def init(self, p: Tensor) -> Mean:
        return Mean(torch.zeros_like(p))

    def at(self, t: int) -> Scalars:
        unbias = 1.0 / (1.0 - self.beta**t) if self.debias else 1.0
        return Scalars(keep=self.beta, gain=1.0 - self.beta, unbias=unbias)

    def update(self, g: Tensor, state: Mean, p: Tensor, k: Scalars) -> tuple[Tensor, Mean]:
        m = k.keep * state.m + k.gain * g
        return k.unbias * m, Mean(m)

    def native(self, parts: Anatomy) -> Native | None:
        if self.debias:
            return None
        beta = float(self.beta)
        return fused_sgd(parts, beta, beta, nesterov=False, starts_at_zero=True)


class AveragedMomentum(Optimizer):
    """Momentum as an exponential average: ``m = momentum m + (1 - momentum) g``, ``p = p - lr m``.

    At a constant rate the steps are those of `Momentum` at ``lr (1 - momentum)``: on a steady gradient the
    step tends to ``lr g``, whatever the momentum. One tensor of state per parameter.

    Args:
        params: parameters, named parameters, or groups of them.
        lr: step length in [0, inf); torch.optim.SGD's default.
        momentum: decay of the average in [0, 1); 0.9 averages over about 10 steps.
        weight_decay: coupled L2 decay in [0, inf).
        debias: divide m by ``1 - momentum**t``, so that the first steps are as long as the later ones.
        maximize: climb in place of descend.
        backend: ``"native"`` or another: see `Optimizer`; None for the fastest that fits.
        **options: see `downslope.optim.options.Options`.

    Raises:
        RecipeError: a hyper-parameter outside its domain.

    Differs from: ``torch.optim.SGD(momentum=b, dampening=b)``, whose first step is ``lr g``.
    Source: see `MovingAverage`; Polyak 1964, eq. 9, in other units.
    """

    source = "Polyak 1964, eq. 9, as an exponential average"
    domains: ClassVar[Domains] = _DEBIAS

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        debias: bool = False,
        *,
        maximize: bool = False,
        backend: str | None = None,
        **options: Unpack[Options],
    ) -> None:
        settings = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "debias": debias,
            "maximize": maximize,
        }
        super().__init__(params, settings, backend=backend, implementation=options)

    @classmethod
    def compose(cls, settings: Mapping[str, Any]) -> Chain:
        return chain(
            CoupledDecay(weight_decay=settings["weight_decay"]),
            MovingAverage(beta=settings["momentum"], debias=settings["debias"]),
            ScaleByLr(lr=settings["lr"]),
        )
