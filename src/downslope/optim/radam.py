"""RAdam: Adam that waits with its scale until the mean square can be trusted (Liu et al. 2020)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Unpack

import torch
from torch import Tensor

from downslope.optim.adam import Moments
from downslope.optim.decay import with_decay
from downslope.optim.driver import Optimizer, Params
from downslope.optim.options import Options
from downslope.optim.rule import Chain, Rule, Scalar, Scalars

__all__ = ["RAdam", "ScaleByRectified", "rectification", "trusted_beyond"]

TRUSTED = 5.0
"""Length of the mean square, in steps, beyond which it is divided by: torch's, the paper has 4."""

_MOST = 1.7976931348623157e308  # times 2 it is inf; 0 times it is 0


def rectification(t: int, b2: Scalar) -> tuple[Scalar, Scalar]:
    """Whether the mean square of step `t` is trusted, 1 or 0, and the factor r on the step, 1 where it is
    not.

    ``most = 2 / (1 - b2) - 1``, ``rho = most - 2 t b2**t / (1 - b2**t)``; trusted is ``rho > 5``, and ``r =
    sqrt((rho - 4) (rho - 2) most / ((most - 4) (most - 2) rho))``.

    Source: Liu et al. 2020, algorithm 2.
    """
    most = 2.0 / (1.0 - b2) - 1.0
    rho = most - 2.0 * t * b2**t / (1.0 - b2**t)
    on = (rho > TRUSTED) * (1.0 - 0.0 * b2)
    # Where it is not trusted any length does that leaves the root real: r is 1 for equal ones.
    rho, most = on * rho + (1.0 - on) * 2.0 * TRUSTED, on * most + (1.0 - on) * 2.0 * TRUSTED
    return on, ((rho - 4.0) * (rho - 2.0) * most / ((most - 4.0) * (most - 2.0) * rho)) ** 0.5


def trusted_beyond(on: Scalar) -> Scalar:
    """What a mean square must be above to be looked at: -1 where `on` is 1, inf where it is 0.

    As a bound, not as a factor: a square that has overflowed before it is trusted gives ``0 inf``, NaN.
    """
    return (1.0 - on) * 2.0 * _MOST - on


@dataclass(frozen=True, kw_only=True)
class ScaleByRectified(Rule[Moments]):
    """Adam's step times r, once the mean square is long enough to be trusted; until then the mean gradient.

    ``m = b1 m + (1 - b1) g``, ``v = b2 v + (1 - b2) g**2``, ``mhat = m / (1 - b1**t)``. Where ``rho > 5``,
    see `rectification`: ``r mhat sqrt(1 - b2**t) / (sqrt(v) + eps)``, else ``mhat``. b1 and b2 are `betas`,
    each in [0, 1), eps lies in [0, inf). With b2 of 2/3 or less it never scales, with .999 from step 6 on.
    Two tensors of state per parameter.

    Differs from: the paper, where the scale begins at ``rho > 4`` and eps is left out; and from Adam, where
    eps is added to the *debiased* root. Torch's form here, formed in float64: near ``rho = 5`` the root of
    float32 differences is off by a hundredth.
    Source: Liu et al. 2020, "On the variance of the adaptive learning rate and beyond", algorithm 2.
    """

    memory: ClassVar[type[tuple[Tensor, ...]]] = Moments
    keys: ClassVar[tuple[str, ...]] = ("exp_avg", "exp_avg_sq")
    counts: ClassVar[bool] = True

    betas: tuple[Scalar, Scalar] = (0.9, 0.999)
    eps: Scalar = 1e-8

    def init(self, p: Tensor) -> Moments:
        return Moments(torch.zeros_like(p), torch.zeros_like(p))

    def at(self, t: int) -> Scalars:
        b1, b2 = self.betas
        on, r = rectification(t, b2)
        root = on * (1.0 - b2**t) ** 0.5 + (1.0 - on)
        return Scalars(
            b1=b1,
            b2=b2,
            gain1=1.0 - b1,
            gain2=1.0 - b2,
            factor=r * root / (1.0 - b1**t),
            beyond=trusted_beyond(on),
            rest=on * self.eps + (1.0 - on),
        )

    def update(self, g: Tensor, state: Moments, p: Tensor, k: Scalars) -> tuple[Tensor, Moments]:
        m = k.b1 * state.m + k.gain1 * g
        v = k.b2 * state.v + k.gain2 * (g * g)
        scale = torch.where(v > k.beyond, v.sqrt(), 0.0) + k.rest  # sqrt(v) + eps, or 1 until v is trusted
        return k.factor * m / scale, Moments(m, v)


class RAdam(Optimizer):
    """RAdam: ``p = p - lr r mhat sqrt(1 - b2**t) / (sqrt(v) + eps)``, and ``p - lr mhat`` in the first steps.

    Equivalent to ``torch.optim.RAdam``: same arguments, defaults and state. Two tensors of state per
    parameter.

    Args:
        params: parameters, named parameters, or groups of them.
        lr: step length in [0, inf).
        betas: decays of the two means, each in [0, 1).
        eps: in [0, inf).
        weight_decay: in [0, inf).
        decoupled_weight_decay: decay the parameters by ``lr weight_decay``, as AdamW and the authors of RAdam
            do; False, torch's default, adds it to the gradient.
        maximize: climb in place of descend.
        backend: see `Optimizer`; torch has no fused kernel.
        **options: see `downslope.optim.options.Options`.

    Raises:
        RecipeError: a hyper-parameter outside its domain.

    Source: see `ScaleByRectified`.
    """

    source = "Liu et al. 2020, algorithm 2"
    implementation = ("foreach", "capturable", "differentiable")

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
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
            "decoupled_weight_decay": decoupled_weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, settings, backend=backend, implementation=options)

    @classmethod
    def compose(cls, settings: Mapping[str, Any]) -> Chain:
        return with_decay(ScaleByRectified(betas=settings["betas"], eps=settings["eps"]), settings)
