"""NAdam: Adam with Nesterov's momentum, on a schedule of its own (Dozat 2016)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Unpack

import torch
from torch import Tensor

from downslope.optim.adam import Moments
from downslope.optim.decay import with_decay
from downslope.optim.domains import Domains, Interval
from downslope.optim.driver import Optimizer, Params
from downslope.optim.options import Options
from downslope.optim.rule import Chain, Rule, Scalar, Scalars

__all__ = ["NAdam", "ScaleByNadam"]

_DECAY: Domains = {
    "momentum_decay": Interval(0.0, float("inf"), "the pace at which the momentum rises", "0.004 is usual")
}


@dataclass(frozen=True, kw_only=True)
class ScaleByNadam(Rule[Moments]):
    """``((1 - mu_t) / (1 - P_t) g + mu_{t+1} / (1 - P_t mu_{t+1}) m) / (sqrt(vhat) + eps)``, Adam a step
    ahead.

    ``mu_t = b1 (1 - 0.96**(t psi) / 2)`` rises from b1/2 to b1, ``P_t`` is the product of all mu so far; ``m
    = b1 m + (1 - b1) g``, ``v = b2 v + (1 - b2) g**2``, ``vhat = v / (1 - b2**t)``. b1 and b2 are `betas`,
    each in [0, 1); psi, `momentum_decay`, and eps lie in [0, inf). Two tensors of state per parameter, and
    P, which is kept since psi may change during the run.

    Differs from: the paper, where m itself decays by mu_t; torch's form here, which is Keras's too. Torch
    keeps P in float32, which puts its steps 1e-7 off.
    Source: Dozat 2016, "Incorporating Nesterov momentum into Adam".
    """

    memory: ClassVar[type[tuple[Tensor, ...]]] = Moments
    keys: ClassVar[tuple[str, ...]] = ("exp_avg", "exp_avg_sq")
    counts: ClassVar[bool] = True
    tally: ClassVar[Mapping[str, float]] = {"mu_product": 1.0}
    domains: ClassVar[Domains] = _DECAY

    betas: tuple[Scalar, Scalar] = (0.9, 0.999)
    eps: Scalar = 1e-8
    momentum_decay: Scalar = 4e-3

    def init(self, p: Tensor) -> Moments:
        return Moments(torch.zeros_like(p), torch.zeros_like(p))

    def advance(self, t: int, tally: Mapping[str, float]) -> tuple[Scalars, dict[str, Any]]:
        b1, b2 = self.betas
        mu, ahead = self._mu(t), self._mu(t + 1)
        product = tally["mu_product"] * mu
        k = Scalars(
            b1=b1,
            b2=b2,
            gain1=1.0 - b1,
            gain2=1.0 - b2,
            now=(1.0 - mu) / (1.0 - product),
            late=ahead / (1.0 - product * ahead),
            unbias2=1.0 / (1.0 - b2**t),
            eps=self.eps,
        )
        return k, {"mu_product": product}

    def _mu(self, t: int) -> Scalar:
        return self.betas[0] * (1.0 - 0.5 * 0.96 ** (t * self.momentum_decay))

    def update(self, g: Tensor, state: Moments, p: Tensor, k: Scalars) -> tuple[Tensor, Moments]:
        m = k.b1 * state.m + k.gain1 * g
        v = k.b2 * state.v + k.gain2 * (g * g)
        vhat = k.unbias2 * v
        return (k.now * g + k.late * m) / (vhat.sqrt() + k.eps), Moments(m, v)


class NAdam(Optimizer):
    """NAdam: Adam whose mean gradient looks one step ahead, ``p = p - lr (a g + b m) / (sqrt(vhat) + eps)``.

    See `ScaleByNadam` for a and b. Equivalent to ``torch.optim.NAdam``: same arguments, defaults and state.
    Two tensors of state per parameter.

    Args:
        params: parameters, named parameters, or groups of them.
        lr: step length in [0, inf).
        betas: decays of the two means, each in [0, 1).
        eps: in [0, inf).
        weight_decay: in [0, inf).
        momentum_decay: psi in [0, inf): how soon the momentum rises from half of ``betas[0]`` to all of it.
        decoupled_weight_decay: decay the parameters by ``lr weight_decay``, as AdamW does; False adds it to
            the gradient.
        maximize: climb in place of descend.
        backend: see `Optimizer`; torch has no fused kernel.
        **options: see `downslope.optim.options.Options`.

    Raises:
        RecipeError: a hyper-parameter outside its domain.

    Source: see `ScaleByNadam`.
    """

    source = "Dozat 2016, Nadam"
    implementation = ("foreach", "capturable", "differentiable")
    domains: ClassVar[Domains] = _DECAY

    def __init__(
        self,
        params: Params,
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
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
            "momentum_decay": momentum_decay,
            "decoupled_weight_decay": decoupled_weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, settings, backend=backend, implementation=options)

    @classmethod
    def compose(cls, settings: Mapping[str, Any]) -> Chain:
        names = ("betas", "eps", "momentum_decay")
        return with_decay(ScaleByNadam(**{name: settings[name] for name in names}), settings)
