"""Schedule-Free AdamW: Schedule-Free's averaging around a debiased root mean square (Defazio et al. 2024)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Unpack, cast

import torch
from torch import Tensor

from downslope.optim.adam import Moments, ScaleByAdam, moments_at
from downslope.optim.decay import DecoupledDecay
from downslope.optim.domains import Domains, Interval
from downslope.optim.driver import Optimizer, Params
from downslope.optim.options import Options
from downslope.optim.rule import Chain, Rule, Scalar, Scalars, chain
from downslope.optim.schedule_free import DOMAINS, ScheduleFree

__all__ = ["ScaleByDebiasedRms", "ScaleByInnerMomentum", "ScheduleFreeAdamW", "SecondMoment"]

_INNER = Interval(0.0, 1.0, "the decay of the mean of g inside the step", "0 is usual")


class SecondMoment(NamedTuple):
    """State of a debiased root mean square."""

    v: Tensor
    """Moving average of g**2; shape and dtype of p."""


@dataclass(frozen=True, kw_only=True)
class ScaleByDebiasedRms(Rule[SecondMoment]):
    """Divides by the debiased root mean square: ``g / (sqrt(vhat) + eps)``, Adam's scale without its mean.

    ``v = b2 v + (1 - b2) g**2``, ``vhat = v / (1 - b2**t)``. b2 is `beta2` in [0, 1), eps lies in [0, inf).
    One tensor of state per parameter.

    Differs from: `ScaleByRms`, which starts at 0 and is not debiased.
    Source: Kingma and Ba 2015, algorithm 1, with beta1 = 0.
    """

    memory: ClassVar[type[tuple[Tensor, ...]]] = SecondMoment
    keys: ClassVar[tuple[str, ...]] = ("exp_avg_sq",)
    counts: ClassVar[bool] = True
    domains: ClassVar[Domains] = {
        "beta2": Interval(0.0, 1.0, "the decay of the mean of g**2", "0.999 is usual")
    }

    beta2: Scalar = 0.999
    eps: Scalar = 1e-8

    def init(self, p: Tensor) -> SecondMoment:
        return SecondMoment(torch.zeros_like(p))

    def at(self, t: int) -> Scalars:
        b2 = self.beta2
        return Scalars(b2=b2, gain2=1.0 - b2, unbias2=1.0 / (1.0 - b2**t), eps=self.eps)

    def update(self, g: Tensor, state: SecondMoment, p: Tensor, k: Scalars) -> tuple[Tensor, SecondMoment]:
        v = k.b2 * state.v + k.gain2 * (g * g)
        vhat = k.unbias2 * v
        return g / (vhat.sqrt() + k.eps), SecondMoment(v)


@dataclass(frozen=True, kw_only=True)
class ScaleByInnerMomentum(Rule[Moments]):
    """`ScaleByAdam` with `inner_momentum` for b1 and `beta2` for b2, as Schedule-Free's betas are others.

    Two tensors of state per parameter.

    Source: the authors' code of Schedule-Free, `inner_momentum`; Kingma and Ba 2015, algorithm 1.
    """

    memory: ClassVar[type[tuple[Tensor, ...]]] = Moments
    keys: ClassVar[tuple[str, ...]] = ScaleByAdam.keys
    counts: ClassVar[bool] = True
    domains: ClassVar[Domains] = {**ScaleByDebiasedRms.domains, "inner_momentum": _INNER}

    inner_momentum: Scalar = 0.9
    beta2: Scalar = 0.999
    eps: Scalar = 1e-8

    def init(self, p: Tensor) -> Moments:
        return Moments(torch.zeros_like(p), torch.zeros_like(p))

    def at(self, t: int) -> Scalars:
        return moments_at(t, self.inner_momentum, self.beta2, self.eps)

    def update(self, g: Tensor, state: Moments, p: Tensor, k: Scalars) -> tuple[Tensor, Moments]:
        return ScaleByAdam.update(cast("ScaleByAdam", self), g, state, p, k)


class ScheduleFreeAdamW(Optimizer):
    """Schedule-Free AdamW: steps ``g / (sqrt(vhat) + eps) + weight_decay y`` in Schedule-Free's three
    sequences.

    See `ScheduleFree` for them and `ScaleByDebiasedRms` for the scale: beta1 is not Adam's, it says how near
    the gradients are taken to the average. The parameters hold y while training; to evaluate or to save them,
    ``with optimizer.shown():``, or ``optimizer.eval()`` and ``optimizer.train()``. `downslope.fit` does it by
    itself. Two tensors of state per parameter, as Adam.

    Args:
        params: parameters, named parameters, or groups of them.
        lr: step length in [0, inf); 1 to 10 times that of AdamW with a schedule, say the authors.
        betas: beta in (0, 1), how near y is to x, and the decay of the mean of squares, in [0, 1).
        eps: in [0, inf).
        weight_decay: decoupled decay in [0, inf), taken at y.
        warmup_steps: steps over which the rate rises to lr, one of 0, 1, ...
        r: power of the step in the weights of the average, in [0, inf).
        weight_lr_power: power of the largest rate in them, in [0, inf).
        inner_momentum: decay in [0, 1) of a debiased mean of the gradient inside the step, as Adam's beta1;
            0 keeps none. A third tensor of state.
        maximize: climb in place of descend.
        backend: see `Optimizer`.
        **options: rounding, dtypes, schedules; see `downslope.optim.options.Options`.

    Raises:
        RecipeError: a hyper-parameter outside its domain.

    Differs from: the paper's algorithm 1, which puts the debiasing ``sqrt(1 - b2**t)`` into the rate, and
    thereby into the weights of the average; the authors left that in version 1.3. See `ScheduleFree` too.
    Source: Defazio et al. 2024, "The road less scheduled", algorithm 1; the authors' code, version 1.4.
    """

    source = "Defazio et al. 2024, algorithm 1"
    domains: ClassVar[Domains] = {**DOMAINS, "inner_momentum": _INNER}

    def __init__(
        self,
        params: Params,
        lr: float = 0.0025,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        warmup_steps: int = 0,
        r: float = 0.0,
        weight_lr_power: float = 2.0,
        inner_momentum: float = 0.0,
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
            "warmup_steps": warmup_steps,
            "r": r,
            "weight_lr_power": weight_lr_power,
            "inner_momentum": inner_momentum,
            "maximize": maximize,
        }
        super().__init__(params, settings, backend=backend, implementation=options)

    @classmethod
    def compose(cls, settings: Mapping[str, Any]) -> Chain:
        beta, beta2 = settings["betas"]
        inner, eps = settings["inner_momentum"], settings["eps"]
        own = ("lr", "warmup_steps", "r", "weight_lr_power")
        # The links' fields are not named betas: a change of those is a change of two links.
        scale = ScaleByInnerMomentum(inner_momentum=inner, beta2=beta2, eps=eps) if inner else None
        return chain(
            scale or ScaleByDebiasedRms(beta2=beta2, eps=eps),
            DecoupledDecay(weight_decay=settings["weight_decay"]),
            ScheduleFree(momentum=beta, **{name: settings[name] for name in own}),
        )
