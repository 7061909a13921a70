"""Adan: Adam with Nesterov's momentum by differences of gradients (Xie et al. 2022)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Unpack

import torch
from torch import Tensor

from downslope.optim.decay import DecoupledDecay
from downslope.optim.domains import Domains, Interval, Several, Switch
from downslope.optim.driver import Optimizer, Params
from downslope.optim.options import Options
from downslope.optim.rule import Chain, Rule, Scalar, Scalars, Stateless, chain
from downslope.optim.scale import ScaleByLr

__all__ = ["Adan", "Differences", "ProximalLr", "ScaleByAdan"]

_BETAS: Domains = {
    "betas": Several(
        Interval(0.0, 1.0, "the decay of a mean", "0.98 is usual"),
        "decays of the means of g, of its differences and of the square; (0.98, 0.92, 0.99) is usual",
        3,
    )
}


class Differences(NamedTuple):
    """State of Adan."""

    m: Tensor
    """Moving average of g; shape and dtype of p."""
    n: Tensor
    """Moving average of (g + b2 d)**2, d the difference of two gradients; shape and dtype of p."""
    v: Tensor
    """Moving average of d; shape and dtype of p."""
    last: Tensor
    """The last gradient, negated as the authors keep it; shape and dtype of p."""


@dataclass(frozen=True, kw_only=True)
class ScaleByAdan(Rule[Differences]):
    """``(mhat + b2 vhat) / (sqrt(nhat) + eps)``: the mean gradient, one step ahead by the mean difference.

    ``d = g - g_last`` (0 at the first step), ``m = b1 m + (1 - b1) g``, ``v = b2 v + (1 - b2) d``, ``n = b3 n
    + (1 - b3) (g + b2 d)**2``; each divided by ``1 - b**t``. b1, b2, b3 are `betas`, each in [0, 1); eps lies
    in [0, inf). Four tensors of state per parameter.

    Differs from: the paper, whose betas are the shares of what is new: 1 minus these, which are the authors'
    code's. Its step counts each group, this one each parameter.
    Source: Xie et al. 2022, "Adan: adaptive Nesterov momentum algorithm for faster optimizing deep models",
    algorithm 1.
    """

    memory: ClassVar[type[tuple[Tensor, ...]]] = Differences
    keys: ClassVar[tuple[str, ...]] = ("exp_avg", "exp_avg_sq", "exp_avg_diff", "neg_pre_grad")
    counts: ClassVar[bool] = True
    domains: ClassVar[Domains] = _BETAS

    betas: tuple[Scalar, Scalar, Scalar] = (0.98, 0.92, 0.99)
    eps: Scalar = 1e-8

    def init(self, p: Tensor) -> Differences:
        return Differences(*(torch.zeros_like(p) for _ in range(4)))

    def at(self, t: int) -> Scalars:
        b1, b2, b3 = self.betas
        return Scalars(
            b1=b1,
            b2=b2,
            b3=b3,
            gain1=1.0 - b1,
            gain2=1.0 - b2,
            gain3=1.0 - b3,
            seen=0.0 if t == 1 else 1.0,
            unbias1=1.0 / (1.0 - b1**t),
            unbias2=b2 / (1.0 - b2**t),
            unroot=1.0 / (1.0 - b3**t) ** 0.5,
            eps=self.eps,
        )

    def update(self, g: Tensor, state: Differences, p: Tensor, k: Scalars) -> tuple[Tensor, Differences]:
        d = k.seen * (g + state.last)
        m = k.b1 * state.m + k.gain1 * g
        v = k.b2 * state.v + k.gain2 * d
        ahead = g + k.b2 * d
        n = k.b3 * state.n + k.gain3 * (ahead * ahead)
        scale = k.unroot * n.sqrt() + k.eps
        return (k.unbias1 * m + k.unbias2 * v) / scale, Differences(m, n, v, -g)


@dataclass(frozen=True, kw_only=True)
class ProximalLr(Rule[Stateless]):
    """``lr (g + lambda p) / (1 + lr lambda)``: p lands at ``(p - lr g) / (1 + lr lambda)``.

    The step ``lr g``, then the pull of ``lambda/2 |p|^2`` taken where it lands, not where it starts: p never
    changes its sign by it, however large lambda. `lr` and lambda, `weight_decay`, lie in [0, inf).

    Differs from: `DecoupledDecay`, which multiplies by ``1 - lr lambda``.
    Source: Xie et al. 2022, algorithm 1; Parikh and Boyd 2014, "Proximal algorithms", section 4.2.
    """

    lr: Scalar = 1e-3
    weight_decay: Scalar = 0.0

    def init(self, p: Tensor) -> Stateless:
        return ()

    def at(self, t: int) -> Scalars:
        pull = self.lr * self.weight_decay
        return Scalars(rate=self.lr / (1.0 + pull), pull=pull / (1.0 + pull))

    def update(self, g: Tensor, state: Stateless, p: Tensor, k: Scalars) -> tuple[Tensor, Stateless]:
        return k.rate * g + k.pull * p, ()


class Adan(Optimizer):
    """Adan: ``p = (p - lr (mhat + b2 vhat) / (sqrt(nhat) + eps)) / (1 + lr weight_decay)``.

    m is the mean gradient, v the mean of its differences d from one step to the next, n the mean of ``(g + b2
    d)**2``. Four tensors of state per parameter.

    Args:
        params: parameters, named parameters, or groups of them.
        lr: step length in [0, inf); the authors' default, they use up to ten times Adam's.
        betas: decays of the three means, each in [0, 1): 1 minus the paper's.
        eps: in [0, inf).
        weight_decay: in [0, inf).
        no_prox: decay as AdamW does, by the factor ``1 - lr weight_decay``, in place of ``1 / (1 + lr
            weight_decay)`` after the step.
        maximize: climb in place of descend.
        backend: see `Optimizer`; torch has no fused kernel.
        **options: see `downslope.optim.options.Options`.

    Raises:
        RecipeError: a hyper-parameter outside its domain.

    Differs from: the authors' code, which clips by `max_grad_norm` itself (a recipe has ``clip_norm``) and
    counts steps for a whole group; the step is the same.
    Source: see `ScaleByAdan`.
    """

    source = "Xie et al. 2022, algorithm 1"
    domains: ClassVar[Domains] = {
        **_BETAS,
        "no_prox": Switch("decay as AdamW does"),
    }

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float, float] = (0.98, 0.92, 0.99),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        no_prox: bool = False,
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
            "no_prox": no_prox,
            "maximize": maximize,
        }
        super().__init__(params, settings, backend=backend, implementation=options)

    @classmethod
    def compose(cls, settings: Mapping[str, Any]) -> Chain:
        scale = ScaleByAdan(betas=settings["betas"], eps=settings["eps"])
        lr, weight_decay = settings["lr"], settings["weight_decay"]
        if settings["no_prox"]:
            return chain(scale, DecoupledDecay(weight_decay=weight_decay), ScaleByLr(lr=lr))
        return chain(scale, ProximalLr(lr=lr, weight_decay=weight_decay))
