"""Gradient descent on the whole training set (Cauchy 1847)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Unpack

from downslope.optim.decay import CoupledDecay
from downslope.optim.driver import Optimizer, Params
from downslope.optim.options import Options
from downslope.optim.rule import Chain, chain
from downslope.optim.scale import ScaleByLr

__all__ = ["GD"]


class GD(Optimizer):
    """Full-batch gradient descent: ``p = p - lr g``, where g is the gradient over all training data.

    The rule is that of `SGD` without momentum; what differs is `batch`, by which a training loop knows that
    every step takes the whole training set. No state. Stable where the curvature is below ``2 / lr``.

    Args:
        params: parameters, named parameters, or groups of them.
        lr: step length in [0, inf); torch.optim.SGD's default.
        weight_decay: coupled L2 decay in [0, inf).
        maximize: gradient ascent.
        backend: ``"native"`` or another: see `Optimizer`; None for the fastest that fits.
        **options: rounding, dtypes, schedules; see `downslope.optim.options.Options`.

    Raises:
        RecipeError: a hyper-parameter outside its domain.

    Source: Cauchy 1847, "Méthode générale pour la résolution des systèmes d'équations simultanées".
    """

    source = "Cauchy 1847"
    batch: ClassVar[str | None] = "full"
    fixed: ClassVar[Mapping[str, Any]] = {"momentum": 0.0, "dampening": 0.0, "nesterov": False}
    kin: ClassVar[str] = "SGD"

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
        backend: str | None = None,
        **options: Unpack[Options],
    ) -> None:
        settings = {"lr": lr, "weight_decay": weight_decay, "maximize": maximize}
        super().__init__(params, settings, backend=backend, implementation=options)

    @classmethod
    def compose(cls, settings: Mapping[str, Any]) -> Chain:
        return chain(CoupledDecay(weight_decay=settings["weight_decay"]), ScaleByLr(lr=settings["lr"]))
