"""AdamW: Adam with decoupled weight decay (Loshchilov and Hutter 2019, algorithm 2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Unpack

from downslope.optim.adam import ScaleByAdam
from downslope.optim.amsgrad import ScaleByAmsgrad
from downslope.optim.decay import DecoupledDecay
from downslope.optim.driver import Optimizer, Params
from downslope.optim.implementation import IMPLEMENTATION
from downslope.optim.options import Options
from downslope.optim.rule import Chain, chain
from downslope.optim.scale import ScaleByLr

__all__ = ["AdamW"]


class AdamW(Optimizer):
    """AdamW: ``p = p - lr (mhat / (sqrt(vhat) + eps) + weight_decay p)``.

    Equivalent to ``torch.optim.AdamW``: same arguments, defaults and state; it decays every parameter, biases
    and norms too. Without decay it is `Adam`. Two tensors of state per parameter.

    Args:
        params: parameters, named parameters, or groups of them.
        lr: step length in [0, inf).
        betas: decays of the two means, each in [0, 1).
        eps: in [0, inf).
        weight_decay: decoupled decay in [0, inf): p shrinks by the factor ``1 - lr weight_decay`` a step.
        amsgrad: divide by the largest second moment seen, see `ScaleByAmsgrad`; a third tensor of state.
        maximize: climb in place of descend.
        backend: ``"native"`` or another: see `Optimizer`; None for the fastest that fits.
        **options: rounding, dtypes, schedules; see `downslope.optim.options.Options`.

    Raises:
        RecipeError: a hyper-parameter outside its domain.

    Differs from: the paper, whose decay is multiplied by the schedule but not by lr; torch's form here.
    Source: Loshchilov and Hutter 2019, algorithm 2; with amsgrad Reddi, Kale and Kumar 2018, algorithm 2.
    """

    source = "Loshchilov and Hutter 2019, algorithm 2; amsgrad: Reddi and others 2018, algorithm 2"
    implementation = IMPLEMENTATION
    fixed: ClassVar[Mapping[str, Any]] = {"decoupled_weight_decay": True}
    kin: ClassVar[str] = "Adam"

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
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
            scale(betas=settings["betas"], eps=settings["eps"]),
            DecoupledDecay(weight_decay=settings["weight_decay"]),
            ScaleByLr(lr=settings["lr"]),
        )
