"""Stochastic gradient descent (Robbins and Monro 1951), with momentum or Nesterov, as torch.optim.SGD."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

from downslope.core.errors import RecipeError
from downslope.optim.decay import CoupledDecay
from downslope.optim.driver import Optimizer, Params
from downslope.optim.momentum import HeavyBall
from downslope.optim.nesterov import LookAhead
from downslope.optim.options import Options
from downslope.optim.rule import Chain, chain
from downslope.optim.scale import ScaleByLr

__all__ = ["SGD"]


class SGD(Optimizer):
    """Stochastic gradient descent: ``p = p - lr g``; with momentum ``b = mu b + (1 - tau) g``, ``p = p - lr
    b``.

    mu is `momentum`, tau `dampening`. Equivalent to ``torch.optim.SGD``: same arguments, defaults, group keys
    and state. State: none, or one tensor per parameter with momentum.

    Args:
        params: parameters, named parameters, or groups of them.
        lr: step length in [0, inf).
        momentum: mu in [0, 1).
        dampening: tau in [0, 1]; not with `nesterov`.
        weight_decay: coupled L2 decay in [0, inf).
        nesterov: ``p = p - lr (g + mu b)``; asks for momentum > 0.
        maximize: climb in place of descend.
        backend: ``"native"`` or another: see `Optimizer`; None for the fastest that fits.
        **options: rounding, dtypes, schedules; see `downslope.optim.options.Options`.

    Raises:
        RecipeError: a hyper-parameter outside its domain, or `nesterov` without momentum or with dampening.

    Differs from: torch refuses ``momentum < 0`` only; here momentum 1 and more is refused too, as it
    diverges.
    Source: Robbins and Monro 1951, "A stochastic approximation method", eq. 6.
    """

    source = "Robbins and Monro 1951, eq. 6"
    implementation = ("foreach", "fused", "differentiable")

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        backend: str | None = None,
        **options: Unpack[Options],
    ) -> None:
        settings = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": maximize,
        }
        super().__init__(params, settings, backend=backend, implementation=options)

    @classmethod
    def compose(cls, settings: Mapping[str, Any]) -> Chain:
        momentum = HeavyBall(momentum=settings["momentum"], dampening=settings["dampening"])
        if settings["nesterov"] and (momentum.idle or momentum.dampening != 0.0):
            raise RecipeError(
                f"nesterov=True with momentum={momentum.momentum:g} and "
                f"dampening={momentum.dampening:g}: Nesterov "
                "needs momentum over 0 and dampening 0; momentum=0.9 is usual"
            )
        return chain(
            CoupledDecay(weight_decay=settings["weight_decay"]),
            LookAhead(momentum=settings["momentum"]) if settings["nesterov"] else momentum,
            ScaleByLr(lr=settings["lr"]),
        )
