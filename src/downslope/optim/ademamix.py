"""AdEMAMix: Adam with a second, slow mean of the gradients (Pagliardini et al. 2024)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Unpack

import torch
from torch import Tensor

from downslope.optim.decay import DecoupledDecay
from downslope.optim.domains import Count, Domains, Interval, Maybe, Several
from downslope.optim.driver import Optimizer, Params
from downslope.optim.options import Options
from downslope.optim.rule import Chain, Rule, Scalar, Scalars, chain
from downslope.optim.scale import ScaleByLr

__all__ = ["AdEMAMix", "ScaleByTwoMeans", "TwoMeans"]

_STEPS = Maybe(Count(1, "the steps of a warm-up", "the length of the run is usual"), "no warm-up")
_DOMAINS: Domains = {
    "betas": Several(
        Interval(0.0, 1.0, "the decay of a mean", "0.9 is usual, 0.9999 for the slow mean"),
        "decays of the fast mean, of the square and of the slow mean; (0.9, 0.999, 0.9999) is usual",
        3,
    ),
    "alpha": Interval(0.0, float("inf"), "the weight of the slow mean", "2 to 10 is usual"),
    "alpha_warmup": _STEPS,
    "beta3_warmup": _STEPS,
}


class TwoMeans(NamedTuple):
    """State of AdEMAMix."""

    m1: Tensor
    """Fast moving average of g; shape and dtype of p."""
    m2: Tensor
    """Slow moving average of g; shape and dtype of p."""
    v: Tensor
    """Moving average of g**2; shape and dtype of p."""


@dataclass(frozen=True, kw_only=True)
class ScaleByTwoMeans(Rule[TwoMeans]):
    """Adam's step with a slow mean beside the fast one: ``(m1hat + alpha m2) / (sqrt(vhat) + eps)``.

    ``m1 = b1 m1 + (1 - b1) g``, ``v = b2 v + (1 - b2) g**2``, ``m2 = b3 m2 + (1 - b3) g``; m1 and v are
    debiased, m2 is not. b1, b2, b3 are `betas`, each in [0, 1); `alpha` and eps lie in [0, inf). Over
    `alpha_warmup` steps alpha rises in a line from 0; over `beta3_warmup` steps b3 comes from b1, its
    half-life in a line: with ``a = t / T``, ``1 / ln b3(t) = (1 - a) / ln b1 + a / ln b3``. None is no
    warm-up. Three tensors of state per parameter.

    Differs from: the authors' code, which adds 1e-8 to every beta inside the logarithms of the warm-up, so
    that b3 is off by as much; the paper's form here.
    Source: Pagliardini, Ablin and Grangier 2024, "The AdEMAMix optimizer: better, faster, older", algorithm
    1.
    """

    memory: ClassVar[type[tuple[Tensor, ...]]] = TwoMeans
    keys: ClassVar[tuple[str, ...]] = ("exp_avg_fast", "exp_avg_slow", "exp_avg_sq")
    counts: ClassVar[bool] = True
    domains: ClassVar[Domains] = _DOMAINS

    betas: tuple[Scalar, Scalar, Scalar] = (0.9, 0.999, 0.9999)
    alpha: Scalar = 2.0
    beta3_warmup: int | None = None
    alpha_warmup: int | None = None
    eps: Scalar = 1e-8

    def init(self, p: Tensor) -> TwoMeans:
        return TwoMeans(*(torch.zeros_like(p) for _ in range(3)))

    def at(self, t: int) -> Scalars:
        b1, b2, _ = self.betas
        b3 = self.slow(t)
        risen = 1.0 if self.alpha_warmup is None else min(t / self.alpha_warmup, 1.0)
        return Scalars(
            b1=b1,
            b2=b2,
            b3=b3,
            gain1=1.0 - b1,
            gain2=1.0 - b2,
            gain3=1.0 - b3,
            unbias1=1.0 / (1.0 - b1**t),
            unbias2=1.0 / (1.0 - b2**t),
            alpha=risen * self.alpha,
            eps=self.eps,
        )

    def slow(self, t: int) -> Scalar:
        """b3 at step `t`."""
        b1, _, b3 = self.betas
        if self.beta3_warmup is None or t >= self.beta3_warmup:
            return b3
        a = t / self.beta3_warmup
        return _beta((1.0 - a) * _life(b1) + a * _life(b3))

    def update(self, g: Tensor, state: TwoMeans, p: Tensor, k: Scalars) -> tuple[Tensor, TwoMeans]:
        m1 = k.b1 * state.m1 + k.gain1 * g
        m2 = k.b3 * state.m2 + k.gain3 * g
        v = k.b2 * state.v + k.gain2 * (g * g)
        vhat = k.unbias2 * v
        return (k.unbias1 * m1 + k.alpha * m2) / (vhat.sqrt() + k.eps), TwoMeans(m1, m2, v)


def _life(beta: Scalar) -> Scalar:
    """``-1 / ln beta``: steps in which a mean forgets all but 1/e; 0 for beta 0."""
    if isinstance(beta, Tensor):
        return -1.0 / beta.log()
    return -1.0 / math.log(beta) if beta else 0.0


def _beta(life: Scalar) -> Scalar:
    if isinstance(life, Tensor):
        return (-1.0 / life).exp()
    return math.exp(-1.0 / life) if life else 0.0


class AdEMAMix(Optimizer):
    """AdEMAMix: ``p = p - lr ((m1hat + alpha m2) / (sqrt(vhat) + eps) + weight_decay p)``.

    m1 is Adam's mean of the gradients, m2 one over ten thousand steps. At alpha 0 it is `AdamW`. Three
    tensors of state per parameter.

    Args:
        params: parameters, named parameters, or groups of them.
        lr: step length in [0, inf).
        betas: decays of the fast mean, of the square and of the slow mean, each in [0, 1).
        alpha: weight of the slow mean in [0, inf); the code's default, the paper has 5 to 10.
        beta3_warmup: steps over which the slow mean becomes slow, from 1; None for from the start.
        alpha_warmup: steps over which alpha rises from 0, from 1; None for from the start. The paper has the
            whole run for both; without them a high alpha can diverge early on.
        eps: in [0, inf).
        weight_decay: decoupled decay in [0, inf).
        maximize: climb in place of descend.
        backend: see `Optimizer`; torch has no fused kernel.
        **options: see `downslope.optim.options.Options`.

    Raises:
        RecipeError: a hyper-parameter outside its domain.

    Source: see `ScaleByTwoMeans`.
    """

    source = "Pagliardini et al. 2024, algorithm 1"
    domains: ClassVar[Domains] = _DOMAINS

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float, float] = (0.9, 0.999, 0.9999),
        alpha: float = 2.0,
        beta3_warmup: int | None = None,
        alpha_warmup: int | None = None,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
        backend: str | None = None,
        **options: Unpack[Options],
    ) -> None:
        settings = {
            "lr": lr,
            "betas": betas,
            "alpha": alpha,
            "beta3_warmup": beta3_warmup,
            "alpha_warmup": alpha_warmup,
            "eps": eps,
            "weight_decay": weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, settings, backend=backend, implementation=options)

    @classmethod
    def compose(cls, settings: Mapping[str, Any]) -> Chain:
        names = ("betas", "alpha", "beta3_warmup", "alpha_warmup", "eps")
        return chain(
            ScaleByTwoMeans(**{name: settings[name] for name in names}),
            DecoupledDecay(weight_decay=settings["weight_decay"]),
            ScaleByLr(lr=settings["lr"]),
        )
