"""The step of sharpness-aware minimisation to the worst neighbour (Foret et al. 2021; Kwon et al. 2021)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from downslope.optim.domains import Domains, Interval, Switch
from downslope.optim.rule import Rule, Scalar, Scalars, Scope, Stateless

__all__ = ["DOMAINS", "Ascent"]

_INF = float("inf")

DOMAINS: Domains = {
    "rho": Interval(0.0, _INF, "how far the worst neighbour is", "0.05 is usual, 0.5 if adaptive"),
    "adaptive": Switch("take neighbours as far as weights are large"),
    "eta": Interval(0.0, _INF, "what is added to |p| if adaptive", "0 or 0.01 is usual"),
}

TINY = 1e-12
"""Beside the norm, as in the authors' code."""


@dataclass(frozen=True, kw_only=True)
class Ascent(Rule[Stateless]):
    """``- rho T**2 g / (|T g| + 1e-12)``, the norm over all parameters: p climbs to where the loss is worst.

    T is 1, or ``|p| + eta`` where `adaptive`: neighbours are then as far as weights are large, and nothing
    changes where one layer's weights grow and the next one's shrink. rho is `rho` and eta is `eta`, both in
    [0, inf). The scale of the loss drops out. No state.

    Differs from: Kwon et al. in their code, where eta is 0.01 and T is 1 for biases; eta 0 and all weights
    alike are what the implementation most used has (davda54/sam).
    Source: Foret, Kleiner, Mobahi and Neyshabur 2021, "Sharpness-aware minimization for efficiently improving
    generalization", eq. 2 with p = 2; Kwon, Kim, Park and Choi 2021, "ASAM: adaptive sharpness-aware
    minimization for scale-invariant learning of deep neural networks", eq. 5.
    """

    scope: ClassVar[Scope] = "global"
    measures: ClassVar[tuple[str, ...]] = ("square",)
    lazy: ClassVar[bool] = True
    domains: ClassVar[Domains] = DOMAINS

    rho: Scalar = 0.05
    adaptive: bool = False
    eta: Scalar = 0.0

    def init(self, p: Tensor) -> Stateless:
        return ()

    def at(self, t: int) -> Scalars:
        return Scalars(share=1.0, rest=self.eta) if self.adaptive else Scalars(share=0.0, rest=1.0)

    def measure(self, g: Tensor, state: Stateless, p: Tensor, k: Scalars) -> tuple[Tensor, ...]:
        tg = (k.share * p.abs() + k.rest) * g
        return (tg * tg,)

    def settle(
        self, t: int, k: Scalars, totals: Scalars, tally: Mapping[str, float]
    ) -> tuple[Scalars, dict[str, Any]]:
        norm = torch.as_tensor(totals.square).sqrt()
        return Scalars(share=k.share, rest=k.rest, rise=-self.rho / (norm + TINY)), {}

    def update(self, g: Tensor, state: Stateless, p: Tensor, k: Scalars) -> tuple[Tensor, Stateless]:
        size = k.share * p.abs() + k.rest
        return k.rise * (size * size * g), ()
