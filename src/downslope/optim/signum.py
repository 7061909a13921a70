"""Signum: the sign of the momentum; signSGD without it (Bernstein et al. 2018)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Unpack

from torch import Tensor

from downslope.optim.decay import with_decay
from downslope.optim.driver import Optimizer, Params
from downslope.optim.moving_average import MovingAverage
from downslope.optim.options import Options
from downslope.optim.rule import Chain, Rule, Scalars, Stateless, chain

__all__ = ["Sign", "Signum"]


@dataclass(frozen=True, kw_only=True)
class Sign(Rule[Stateless]):
    """``sign(g)``: 1, -1, or 0 at 0. Source: Bernstein et al. 2018, signSGD."""

    def init(self, p: Tensor) -> Stateless:
        return ()

    def at(self, t: int) -> Scalars:
        return Scalars()

    def update(self, g: Tensor, state: Stateless, p: Tensor, k: Scalars) -> tuple[Tensor, Stateless]:
        return g.sign(), ()


class Signum(Optimizer):
    """Signum: ``m = momentum m + (1 - momentum) g``, ``p = p - lr sign(m)``; at momentum 0 it is signSGD.

    Every element moves by `lr`. One tensor of state per parameter, none without momentum.

    Args:
        params: parameters, named parameters, or groups of them.
        lr: step length in [0, inf).
        momentum: in [0, 1); the paper's default.
        weight_decay: in [0, inf).
        decoupled_weight_decay: decay the parameters by ``lr weight_decay`` in place of the gradient by
            ``weight_decay``.
        maximize: climb in place of descend.
        backend: see `Optimizer`; torch has no fused kernel.
        **options: see `downslope.optim.options.Options`.

    Raises:
        RecipeError: a hyper-parameter outside its domain.

    Source: Bernstein et al. 2018, "signSGD: compressed optimisation for non-convex problems", Signum.
    """

    source = "Bernstein et al. 2018, signSGD and Signum"

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
        *,
        maximize: bool = False,
        backend: str | None = None,
        **options: Unpack[Options],
    ) -> None:
        settings = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "decoupled_weight_decay": decoupled_weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, settings, backend=backend, implementation=options)

    @classmethod
    def compose(cls, settings: Mapping[str, Any]) -> Chain:
        return with_decay(chain(MovingAverage(beta=settings["momentum"]), Sign()), settings)
