"""Lion: the sign of a mean gradient (Chen et al. 2023, algorithm 2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Unpack

import torch
from torch import Tensor

from downslope.optim.decay import DecoupledDecay
from downslope.optim.domains import Domains, Interval, Several
from downslope.optim.driver import Optimizer, Params
from downslope.optim.moving_average import Mean
from downslope.optim.options import Options
from downslope.optim.rule import Chain, Rule, Scalar, Scalars, chain
from downslope.optim.scale import ScaleByLr

__all__ = ["Lion", "SignOfMean"]


_DOMAINS: Domains = {
    "betas": Several(
        Interval(0.0, 1.0, "the decay of a mean of g", "0.9 is usual"),
        "decays of the mean whose sign is taken and of the one that is kept; (0.9, 0.99) is usual",
    )
}


@dataclass(frozen=True, kw_only=True)
class SignOfMean(Rule[Mean]):
    """The sign of a mean that has more of the present gradient than the one that is kept.

    ``c = b1 m + (1 - b1) g``, returns ``sign(c)``, 0 at 0; then ``m = b2 m + (1 - b2) g``. b1 and b2 are
    `betas`, each in [0, 1); with b1 = b2 it is `Signum`'s. One tensor of state per parameter. No step depends
    on the scale of the gradients, only on their signs and on their ratio to one another.

    Source: Chen et al. 2023, "Symbolic discovery of optimization algorithms", algorithm 2.
    """

    memory: ClassVar[type[tuple[Tensor, ...]]] = Mean
    domains: ClassVar[Domains] = _DOMAINS
    keys: ClassVar[tuple[str, ...]] = ("exp_avg",)

    betas: tuple[Scalar, Scalar] = (0.9, 0.99)

    def init(self, p: Tensor) -> Mean:
        return Mean(torch.zeros_like(p))

    def at(self, t: int) -> Scalars:
        b1, b2 = self.betas
        return Scalars(b1=b1, b2=b2, gain1=1.0 - b1, gain2=1.0 - b2)

    def update(self, g: Tensor, state: Mean, p: Tensor, k: Scalars) -> tuple[Tensor, Mean]:
        c = k.b1 * state.m + k.gain1 * g
        m = k.b2 * state.m + k.gain2 * g
        return c.sign(), Mean(m)


class Lion(Optimizer):
    """Lion: ``p = p - lr (sign(b1 m + (1 - b1) g) + weight_decay p)``, ``m = b2 m + (1 - b2) g``.

    Every element moves by ``lr``, so `lr` is to be three to ten times smaller than AdamW's, and
    `weight_decay` as much larger. One tensor of state per parameter.

    Args:
        params: parameters, named parameters, or groups of them.
        lr: step length in [0, inf); the authors' default.
        betas: of the mean whose sign is taken and of the one that is kept, each in [0, 1).
        weight_decay: decoupled decay in [0, inf): p shrinks by the factor ``1 - lr weight_decay`` a step.
        maximize: climb in place of descend.
        backend: see `Optimizer`; torch has no fused kernel.
        **options: see `downslope.optim.options.Options`.

    Raises:
        RecipeError: a hyper-parameter outside its domain.

    Differs from: the authors' code in nothing but `maximize`.
    Source: Chen et al. 2023, algorithm 2.
    """

    source = "Chen et al. 2023, algorithm 2"
    domains: ClassVar[Domains] = _DOMAINS

    def __init__(
        self,
        params: Params,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
        backend: str | None = None,
        **options: Unpack[Options],
    ) -> None:
        settings = {"lr": lr, "betas": betas, "weight_decay": weight_decay, "maximize": maximize}
        super().__init__(params, settings, backend=backend, implementation=options)

    @classmethod
    def compose(cls, settings: Mapping[str, Any]) -> Chain:
        return chain(
            SignOfMean(betas=settings["betas"]),
            DecoupledDecay(weight_decay=settings["weight_decay"]),
            ScaleByLr(lr=settings["lr"]),
        )
