"""RMSProp: divide by a running root mean square (Tieleman and Hinton 2012), centred too (Graves 2013)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Unpack

import torch
from torch import Tensor

from downslope.optim import ops
from downslope.optim.decay import CoupledDecay
from downslope.optim.domains import Domains, Interval
from downslope.optim.driver import Optimizer, Params
from downslope.optim.flow import Flow, Lists
from downslope.optim.momentum import HeavyBall
from downslope.optim.options import Options
from downslope.optim.rule import Chain, Rule, Scalar, Scalars, chain
from downslope.optim.scale import ScaleByLr

__all__ = ["CentredSquares", "RMSprop", "ScaleByRms", "ScaleByStd", "Squares"]


_DOMAINS: Domains = {
    "alpha": Interval(0.0, 1.0, "the decay of the mean of g**2", "0.9 to 0.99 is usual"),
}


class Squares(NamedTuple):
    """State of RMSProp."""

    n: Tensor
    """Moving average of g**2 (Graves' n); shape and dtype of p."""


class CentredSquares(NamedTuple):
    """State of centred RMSProp."""

    n: Tensor
    """Moving average of g**2; shape and dtype of p."""
    m: Tensor
    """Moving average of g (Graves' g); shape and dtype of p."""


@dataclass(frozen=True, kw_only=True)
class ScaleByRms(Rule[Squares]):
    """Divides by the running root mean square: ``n = aleph n + (1 - aleph) g**2``, ``g / (sqrt(n) + eps)``.

    aleph is `alpha` in [0, 1), eps lies in [0, inf). No debiasing: n starts at 0, so the first steps are
    long. One tensor of state per parameter.

    Differs from: TensorFlow and Graves, where eps stands under the root; torch's form here.
    Source: Tieleman and Hinton 2012, Coursera lecture 6.5, slide 29.
    """

    memory: ClassVar[type[tuple[Tensor, ...]]] = Squares
    domains: ClassVar[Domains] = _DOMAINS
    keys: ClassVar[tuple[str, ...]] = ("square_avg",)
    counts: ClassVar[bool] = True  # the rule does not need it; torch's state has it

    alpha: Scalar = 0.99
    eps: Scalar = 1e-8

    def init(self, p: Tensor) -> Squares:
        return Squares(torch.zeros_like(p))

    def at(self, t: int) -> Scalars:
        return Scalars(keep=self.alpha, gain=1.0 - self.alpha, eps=self.eps)

    def update(self, g: Tensor, state: Squares, p: Tensor, k: Scalars) -> tuple[Tensor, Squares]:
        n = k.keep * state.n + k.gain * (g * g)
        return g / (n.sqrt() + k.eps), Squares(n)

    def eager(self, flow: Flow, state: Lists, p: list[Tensor], k: Scalars) -> Flow:
        (n,) = state
        g = flow.value(p)
        ops.foreach_mul_(n, k.keep)
        ops.foreach_addcmul_(n, g, g, value=k.gain)
        root = ops.foreach_sqrt(n)
        ops.foreach_add_(root, k.eps)
        return Flow(g, root, owned=flow.fresh)


@dataclass(frozen=True, kw_only=True)
class ScaleByStd(Rule[CentredSquares]):
    """Divides by the running standard deviation: ``g / (sqrt(n - m**2) + eps)``, n and m means of g**2 and g.

    The decay of both is `alpha` in [0, 1), eps lies in [0, inf). Two tensors of state per parameter.

    Differs from: Graves, whose eps (1e-4) stands under the root and keeps it from a negative argument;
    torch's form here, NaN included should rounding make ``n < m**2``.
    Source: Graves 2013, "Generating sequences with recurrent neural networks", eq. 38-41.
    """

    memory: ClassVar[type[tuple[Tensor, ...]]] = CentredSquares
    domains: ClassVar[Domains] = _DOMAINS
    keys: ClassVar[tuple[str, ...]] = ("square_avg", "grad_avg")
    counts: ClassVar[bool] = True

    alpha: Scalar = 0.99
    eps: Scalar = 1e-8

    def init(self, p: Tensor) -> CentredSquares:
        return CentredSquares(torch.zeros_like(p), torch.zeros_like(p))

    def at(self, t: int) -> Scalars:
        return Scalars(keep=self.alpha, gain=1.0 - self.alpha, eps=self.eps)

    def update(
        self, g: Tensor, state: CentredSquares, p: Tensor, k: Scalars
    ) -> tuple[Tensor, CentredSquares]:
        n = k.keep * state.n + k.gain * (g * g)
        m = k.keep * state.m + k.gain * g
        return g / ((n - m * m).sqrt() + k.eps), CentredSquares(n, m)

    def eager(self, flow: Flow, state: Lists, p: list[Tensor], k: Scalars) -> Flow:
        n, m = state
        g = flow.value(p)
        ops.foreach_mul_(n, k.keep)
        ops.foreach_addcmul_(n, g, g, value=k.gain)
        ops.foreach_lerp_(m, g, k.gain)
        root = ops.foreach_addcmul(n, m, m, value=-1.0)
        ops.foreach_sqrt_(root)
        ops.foreach_add_(root, k.eps)
        return Flow(g, root, owned=flow.fresh)


class RMSprop(Optimizer):
    """RMSProp: ``n = alpha n + (1 - alpha) g**2``, ``p = p - lr g / (sqrt(n) + eps)``.

    With momentum, ``b = mu b + g / (sqrt(n) + eps)``, ``p = p - lr b``; centred, see `ScaleByStd`. Equivalent
    to ``torch.optim.RMSprop``: same arguments, defaults and state. One to three tensors of state per
    parameter.

    Args:
        params: parameters, named parameters, or groups of them.
        lr: step length in [0, inf).
        alpha: decay of the mean of squares in [0, 1); torch's default, the lecture has 0.9.
        eps: in [0, inf).
        weight_decay: coupled L2 decay in [0, inf).
        momentum: mu in [0, 1).
        centered: divide by the standard deviation in place of the root mean square.
        maximize: climb in place of descend.
        backend: see `Optimizer`; torch has no fused kernel.
        **options: rounding, dtypes, schedules; see `downslope.optim.options.Options`.

    Raises:
        RecipeError: a hyper-parameter outside its domain.

    Source: see `ScaleByRms`.
    """

    source = "Tieleman and Hinton 2012, lecture 6.5; Graves 2013, eq. 38-41"
    implementation = ("foreach", "capturable", "differentiable")
    domains: ClassVar[Domains] = _DOMAINS

    def __init__(
        self,
        params: Params,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        *,
        maximize: bool = False,
        backend: str | None = None,
        **options: Unpack[Options],
    ) -> None:
        settings = {
            "lr": lr,
            "alpha": alpha,
            "eps": eps,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "centered": centered,
            "maximize": maximize,
        }
        super().__init__(params, settings, backend=backend, implementation=options)

    @classmethod
    def compose(cls, settings: Mapping[str, Any]) -> Chain:
        scale = ScaleByStd if settings["centered"] else ScaleByRms
        return chain(
            CoupledDecay(weight_decay=settings["weight_decay"]),
            scale(alpha=settings["alpha"], eps=settings["eps"]),
            HeavyBall(momentum=settings["momentum"]),
            ScaleByLr(lr=settings["lr"]),
        )
