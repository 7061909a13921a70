"""LARS: layer-wise adaptive rates for momentum (You, Gitman and Ginsburg 2017, algorithm 1)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Unpack

import torch
from torch import Tensor

from downslope.core.errors import RecipeError
from downslope.optim.decay import CoupledDecay
from downslope.optim.domains import Domains, Interval, Switch
from downslope.optim.driver import Optimizer, Params
from downslope.optim.momentum import HeavyBall
from downslope.optim.nesterov import LookAhead
from downslope.optim.options import Options
from downslope.optim.rule import Chain, Rule, Scalar, Scalars, Scope, Stateless, Tally, chain
from downslope.optim.scale import ScaleByLr

__all__ = ["LARS", "ScaleByLars"]


@dataclass(frozen=True, kw_only=True)
class ScaleByLars(Rule[Stateless]):
    """The local rate: ``eta |p| / (|g| + lambda |p| + eps) (g + lambda p)`` for each tensor.

    eta is `trust_coefficient` in [0, inf), lambda is `weight_decay` in [0, inf), eps is `eps` in
    [0, inf), the paper's 0. Where ``|p|`` or the whole denominator is 0 the rate is 1, so that weights which
    start at zero move. No state.

    Source: You, Gitman and Ginsburg 2017, "Large batch training of convolutional networks", algorithm 1.
    """

    scope: ClassVar[Scope] = "tensor"
    measures: ClassVar[tuple[str, ...]] = ("weights", "gradients")
    domains: ClassVar[Domains] = {
        "trust_coefficient": Interval(
            0.0, math.inf, "the length of a step as a share of the weights", "0.001 is usual"
        ),
        "eps": Interval(0.0, math.inf, "what keeps a division from zero", "0 is usual"),
    }

    trust_coefficient: Scalar = 1e-3
    weight_decay: Scalar = 0.0
    eps: Scalar = 0.0

    def init(self, p: Tensor) -> Stateless:
        return ()

    def at(self, t: int) -> Scalars:
        return Scalars(eta=self.trust_coefficient, decay=self.weight_decay, eps=self.eps)

    def measure(self, g: Tensor, state: Stateless, p: Tensor, k: Scalars) -> tuple[Tensor, ...]:
        return p * p, g * g

    def settle(
        self, t: int, k: Scalars, totals: Scalars, tally: Mapping[str, float]
    ) -> tuple[Scalars, Tally]:
        weights, gradients = torch.sqrt(totals.weights), torch.sqrt(totals.gradients)
        below = gradients + k.decay * weights + k.eps
        none = (weights == 0.0) | (below == 0.0)
        rate = torch.where(none, torch.ones_like(weights), k.eta * weights / below)
        return Scalars(rate=rate, decay=k.decay), {}

    def update(self, g: Tensor, state: Stateless, p: Tensor, k: Scalars) -> tuple[Tensor, Stateless]:
        return k.rate * (g + k.decay * p), ()


class LARS(Optimizer):
    """LARS: ``b = mu b + lr eta |p| / (|g| + lambda |p|) (g + lambda p)``, ``p = p - b`` for each tensor.

    A step has the length ``lr eta |p|`` about, whatever the scale of the loss. One tensor of state per
    parameter.

    Args:
        params: parameters, named parameters, or groups of them. Biases and normalisation are usually left
            out of rate and decay: ``{"params": ..., "adapt": False, "weight_decay": 0.0}``.
        lr: the global rate in [0, inf), above 1 in the paper's runs with large batches.
        momentum: mu in [0, 1).
        dampening: tau in [0, 1], the share of the step that the buffer does not take.
        weight_decay: lambda in [0, inf); the paper's 5e-4 for AlexNet.
        nesterov: look one step of momentum ahead; dampening must be 0.
        trust_coefficient: eta in [0, inf); the paper's 0.001.
        eps: added to the denominator, in [0, inf); the paper has none.
        adapt: the local rate; without it this is SGD with lr inside of the momentum.
        maximize: climb in place of descend.
        backend: see `Optimizer`.
        **options: see `downslope.optim.options.Options`.

    Raises:
        RecipeError: a hyper-parameter outside its domain, or Nesterov's momentum with dampening.

    Differs from: torch's and most others' SGD, whose buffer is free of lr: here it holds lr, as in the
    paper, so that a change of lr does not reach back. pytorch_optimizer starts the buffer at the gradient
    before it was scaled, which is eta's inverse times too long for the first 1 / (1 - mu) steps, and leaves
    ``lambda |p|`` out of the denominator.
    Source: You, Gitman and Ginsburg 2017, algorithm 1.
    """

    source = "You, Gitman and Ginsburg 2017, algorithm 1"
    domains: ClassVar[Domains] = {**ScaleByLars.domains, "adapt": Switch("scale by the local rate")}

    def __init__(
        self,
        params: Params,
        lr: float = 1.0,
        momentum: float = 0.9,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        trust_coefficient: float = 1e-3,
        eps: float = 0.0,
        adapt: bool = True,
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
            "trust_coefficient": trust_coefficient,
            "eps": eps,
            "adapt": adapt,
            "maximize": maximize,
        }
        super().__init__(params, settings, backend=backend, implementation=options)

    @classmethod
    def compose(cls, settings: Mapping[str, Any]) -> Chain:
        momentum = HeavyBall(momentum=settings["momentum"], dampening=settings["dampening"])
        if settings["nesterov"] and (momentum.idle or momentum.dampening != 0.0):
            raise RecipeError(
                f"nesterov=True with momentum={momentum.momentum:g} and dampening={momentum.dampening:g}: "
                "Nesterov needs momentum over 0 and dampening 0; momentum=0.9 is usual"
            )
        decay = settings["weight_decay"]
        local = ScaleByLars(
            trust_coefficient=settings["trust_coefficient"], weight_decay=decay, eps=settings["eps"]
        )
        return chain(
            local if settings["adapt"] else CoupledDecay(weight_decay=decay),
            ScaleByLr(lr=settings["lr"]),
            LookAhead(momentum=settings["momentum"]) if settings["nesterov"] else momentum,
        )
