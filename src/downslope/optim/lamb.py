"""LAMB: Adam's step at the length of the weights, tensor by tensor (You et al. 2020, algorithm 2)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Unpack

import torch
from torch import Tensor

from downslope.core.errors import RecipeError
from downslope.optim.adam import ScaleByAdam
from downslope.optim.decay import DecoupledDecay
from downslope.optim.domains import Domains, Interval, Several, Switch
from downslope.optim.driver import Optimizer, Params
from downslope.optim.options import Options
from downslope.optim.rule import Chain, Rule, Scalar, Scalars, Scope, Stateless, Tally, chain
from downslope.optim.scale import ScaleByLr

__all__ = ["LAMB", "ScaleByTrustRatio"]


@dataclass(frozen=True, kw_only=True)
class ScaleByTrustRatio(Rule[Stateless]):
    """Gives the step of each tensor the length of its weights: ``phi(|p|) / |u| u``; by 1 where a norm is 0.

    phi brings a norm into `clamp`, the paper's ``[gamma_l, gamma_u]``; (0, inf), the default, is the identity
    that its experiments have. No state.

    Source: You et al. 2020, "Large batch optimization for deep learning: training BERT in 76 minutes",
    algorithm 2, line 12, and section 3.
    """

    scope: ClassVar[Scope] = "tensor"
    measures: ClassVar[tuple[str, ...]] = ("weights", "steps")
    domains: ClassVar[Domains] = {
        "clamp": Several(
            Interval(0.0, math.inf, "a bound of the norm of the weights", "(0, inf) is usual", closed=True),
            "the bounds of the norm of the weights; (0, inf) is usual",
        )
    }

    clamp: tuple[Scalar, Scalar] = (0.0, math.inf)

    def __post_init__(self) -> None:
        super().__post_init__()
        low, high = self.clamp
        if low > high:
            raise RecipeError(
                f"clamp=({low:g}, {high:g}): the lower bound of the norm of the weights lies above the upper "
                "one; (0, inf) is usual"
            )

    def init(self, p: Tensor) -> Stateless:
        return ()

    def at(self, t: int) -> Scalars:
        low, high = self.clamp
        return Scalars(low=low, high=high)

    def measure(self, g: Tensor, state: Stateless, p: Tensor, k: Scalars) -> tuple[Tensor, ...]:
        return p * p, g * g

    def settle(
        self, t: int, k: Scalars, totals: Scalars, tally: Mapping[str, float]
    ) -> tuple[Scalars, Tally]:
        weights, steps = torch.sqrt(totals.weights), torch.sqrt(totals.steps)
        ratio = torch.clamp(weights, float(k.low), float(k.high)) / steps
        none = (weights == 0.0) | (steps == 0.0)
        return Scalars(ratio=torch.where(none, torch.ones_like(ratio), ratio)), {}

    def update(self, g: Tensor, state: Stateless, p: Tensor, k: Scalars) -> tuple[Tensor, Stateless]:
        return k.ratio * g, ()


class LAMB(Optimizer):
    """LAMB: ``u = mhat / (sqrt(vhat) + eps) + lambda p``, ``p = p - lr phi(|p|) / |u| u`` for each tensor.

    The step of a tensor has the length ``lr |p|`` whatever the scale of the loss. Two tensors of state per
    parameter, read twice.

    Args:
        params: parameters, named parameters, or groups of them. The paper's code leaves biases and
            normalisation out of ratio and decay: ``{"params": ..., "adapt": False, "weight_decay": 0.0}``.
        lr: the length of a step as a share of the length of the weights, in [0, inf).
        betas: decays of the means of g and g**2, each in [0, 1).
        eps: in [0, inf); the paper's 1e-6.
        weight_decay: lambda in [0, inf), inside of the ratio; the paper's 0.01.
        clamp: (gamma_l, gamma_u), each in [0, inf], see `ScaleByTrustRatio`.
        adapt: the ratio; without it this is AdamW.
        maximize: climb in place of descend.
        backend: see `Optimizer`.
        **options: see `downslope.optim.options.Options`.

    Raises:
        RecipeError: a hyper-parameter outside its domain.

    Differs from: pytorch_optimizer, whose ratio stands on the undebiased step that it debiases afterwards,
    so that the first step is 1 / (1 - b1) times too long, and which bounds ``|p|`` by 10; NVIDIA's, which
    also clips the gradient's norm to 1 (``chain(ClipNorm(max_norm=1.0), ...)`` here).
    Source: You et al. 2020, algorithm 2.
    """

    source = "You et al. 2020, algorithm 2"
    domains: ClassVar[Domains] = {**ScaleByTrustRatio.domains, "adapt": Switch("scale by the trust ratio")}

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.01,
        clamp: tuple[float, float] = (0.0, math.inf),
        adapt: bool = True,
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
            "clamp": clamp,
            "adapt": adapt,
            "maximize": maximize,
        }
        super().__init__(params, settings, backend=backend, implementation=options)

    @classmethod
    def compose(cls, settings: Mapping[str, Any]) -> Chain:
        return chain(
            ScaleByAdam(betas=settings["betas"], eps=settings["eps"]),
            DecoupledDecay(weight_decay=settings["weight_decay"]),
            *([ScaleByTrustRatio(clamp=settings["clamp"])] if settings["adapt"] else []),
            ScaleByLr(lr=settings["lr"]),
        )
