"""AdaBelief: divide by how far the gradient is from its mean (Zhuang et al. 2020)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Unpack

import torch
from torch import Tensor

from downslope.optim.decay import with_decay
from downslope.optim.domains import Domains, Interval, Maybe, Switch
from downslope.optim.driver import Optimizer, Params
from downslope.optim.options import Options
from downslope.optim.radam import rectification, trusted_beyond
from downslope.optim.rule import Chain, Rule, Scalar, Scalars

__all__ = ["AdaBelief", "Belief", "ScaleByBelief"]

_DOMAINS: Domains = {
    "eps": Interval(
        0.0, float("inf"), "what keeps a division from zero", "1e-16 is usual, the square of Adam's"
    ),
    "eps_root": Maybe(
        Interval(
            0.0, float("inf"), "what is added to the mean square at every step", "as much as eps is usual"
        ),
        "as much as eps",
    ),
    "rectify": Switch("wait for a mean square that can be trusted, as RAdam does"),
}


class Belief(NamedTuple):
    """State of AdaBelief."""

    m: Tensor
    """Moving average of g; shape and dtype of p."""
    s: Tensor
    """Moving average of (g - m)**2, with what eps adds up to; shape and dtype of p."""


@dataclass(frozen=True, kw_only=True)
class ScaleByBelief(Rule[Belief]):
    """Divides the mean gradient by its root mean square deviation: ``mhat / (sqrt(shat) + eps)``.

    ``m = b1 m + (1 - b1) g``, ``s = b2 s + (1 - b2) (g - m)**2 + eps_root``, with the *new* m; ``mhat = m /
    (1 - b1**t)``, ``shat = s / (1 - b2**t)``. b1 and b2 are `betas`, each in [0, 1); eps and `eps_root` lie
    in [0, inf), `eps_root` is eps if None. Two tensors of state per parameter. The first step is ``lr / b1``
    long.

    With `rectify` the step is ``r mhat sqrt(1 - b2**t) / (sqrt(s) + eps)`` where s can be trusted and mhat
    where it cannot, as `ScaleByRectified` has it.

    Differs from: Adam, whose v is the mean of g**2: where gradients agree s is near 0, and the step long. The
    authors' eps is inside of the recursion, where it adds up to ``eps / (1 - b2)``, a thousandfold; it is
    kept so, ``eps_root=0.0`` leaves it out.
    Source: Zhuang et al. 2020, "AdaBelief optimizer: adapting stepsizes by the belief in observed gradients",
    algorithm 2.
    """

    memory: ClassVar[type[tuple[Tensor, ...]]] = Belief
    keys: ClassVar[tuple[str, ...]] = ("exp_avg", "exp_avg_var")
    counts: ClassVar[bool] = True
    domains: ClassVar[Domains] = _DOMAINS

    betas: tuple[Scalar, Scalar] = (0.9, 0.999)
    eps: Scalar = 1e-16
    eps_root: Scalar | None = None
    rectify: bool = False

    def init(self, p: Tensor) -> Belief:
        return Belief(torch.zeros_like(p), torch.zeros_like(p))

    def at(self, t: int) -> Scalars:
        b1, b2 = self.betas
        unbias1, left = 1.0 / (1.0 - b1**t), (1.0 - b2**t) ** 0.5
        on, r = rectification(t, b2) if self.rectify else (1.0, 1.0)
        return Scalars(
            b1=b1,
            b2=b2,
            gain1=1.0 - b1,
            gain2=1.0 - b2,
            added=self.eps if self.eps_root is None else self.eps_root,
            factor=r * (on * left + (1.0 - on)) * unbias1 if self.rectify else unbias1,
            on=on if self.rectify else 1.0 / left,
            beyond=trusted_beyond(on),
            rest=on * self.eps + (1.0 - on),
        )

    def update(self, g: Tensor, state: Belief, p: Tensor, k: Scalars) -> tuple[Tensor, Belief]:
        m = k.b1 * state.m + k.gain1 * g
        s = k.b2 * state.s + k.gain2 * ((g - m) * (g - m)) + k.added
        root = torch.where(s > k.beyond, s.sqrt(), 0.0)
        scale = k.on * root + k.rest  # sqrt(shat) + eps; see `at` for what rectifying makes of it
        return k.factor * m / scale, Belief(m, s)


class AdaBelief(Optimizer):
    """AdaBelief: ``p = p - lr mhat / (sqrt(shat) + eps)``, with s the mean of ``(g - m)**2`` in place of
    g**2.

    Two tensors of state per parameter.

    Args:
        params: parameters, named parameters, or groups of them.
        lr: step length in [0, inf).
        betas: decays of the two means, each in [0, 1).
        eps: in [0, inf); about the square of what serves Adam.
        weight_decay: in [0, inf).
        decoupled_weight_decay: decay the parameters by ``lr weight_decay``, as AdamW does; False adds it to
            the gradient. The authors' `weight_decouple`.
        eps_root: what is added to s at every step, in [0, inf); None for as much as eps, as the authors have
            it.
        rectify: wait for s as RAdam does.
        maximize: climb in place of descend.
        backend: see `Optimizer`; torch has no fused kernel.
        **options: see `downslope.optim.options.Options`.

    Raises:
        RecipeError: a hyper-parameter outside its domain.

    Differs from: the authors' adabelief_pytorch 0.2, where `rectify` is on by default, begins at step ``rho
    >= 5`` in place of beyond it, and an AMSGrad form exists.
    Source: see `ScaleByBelief`.
    """

    source = "Zhuang et al. 2020, algorithm 2"
    domains: ClassVar[Domains] = _DOMAINS

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-16,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = True,
        eps_root: float | None = None,
        rectify: bool = False,
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
            "decoupled_weight_decay": decoupled_weight_decay,
            "eps_root": eps_root,
            "rectify": rectify,
            "maximize": maximize,
        }
        super().__init__(params, settings, backend=backend, implementation=options)

    @classmethod
    def compose(cls, settings: Mapping[str, Any]) -> Chain:
        scale = ScaleByBelief(**{name: settings[name] for name in ("betas", "eps", "eps_root", "rectify")})
        return with_decay(scale, settings)
