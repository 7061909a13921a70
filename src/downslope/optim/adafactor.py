"""Adafactor: second moments by rows and columns, steps relative to the weights (Shazeer and Stern 2018)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Unpack

import torch
from torch import Tensor

from downslope.core.errors import RecipeError
from downslope.optim.domains import Choice, Domains, Interval, Maybe, Several
from downslope.optim.driver import Optimizer, Params
from downslope.optim.factored import step_in_pieces
from downslope.optim.kernel.own import Own
from downslope.optim.options import Options
from downslope.optim.rule import Chain, Rule, Scalars, chain

__all__ = ["Adafactor", "FactoredSquares", "ScaleByFactors", "Squares"]

_INF = math.inf

DOMAINS: Domains = {
    "beta2_decay": Interval(
        -_INF, 0.0, "the power of t in 1 - t**beta2_decay, the decay of a mean", "-0.8 is usual", True
    ),
    "eps": Several(
        (
            Maybe(Interval(0.0, _INF, "the least size of g", "None is usual"), "the eps of the dtype"),
            Interval(0.0, _INF, "the least size of the weights that a step goes by", "1e-3 is usual"),
        ),
        "the least root mean squares of g and of the weights",
    ),
    "d": Interval(1.0, _INF, "the root mean square from which the update is cut", "1 is usual"),
    "factor": Choice(("last", "matrix"), "which dimensions are rows and columns"),
}


class FactoredSquares(NamedTuple):
    """State of a matrix."""

    R: Tensor
    """Moving mean of g**2 over each row; shape of p with a last dimension of 1."""
    C: Tensor
    """Moving mean of g**2 over each column; shape of p with a last dimension but one of 1."""


class Squares(NamedTuple):
    """State of what is no matrix."""

    V: Tensor
    """Moving mean of g**2; shape and dtype of p."""


@dataclass(frozen=True, kw_only=True)
class ScaleByFactors(Rule[FactoredSquares | Squares]):
    """The whole step of Adafactor, from g to what is taken from p.

        R = b R + (1 - b) mean_columns(g**2),  C = b C + (1 - b) mean_rows(g**2),   b = 1 - t**beta2_decay
        V = R C / max(mean(R), eps1),   U = g / max(sqrt(V), eps1)
        step = max(eps2, RMS(p)) min(lr, 1 / sqrt(t)) U / max(1, RMS(U) / d) + lr weight_decay p

    Where p has fewer than two dimensions, V is the moving mean of g**2 itself.
    With `factor` "last" each matrix of the last two dimensions is factored, so that a convolution
    (o, i, 3, 3) keeps 6 numbers for 9 weights; with "matrix" it is one matrix of o rows, which keeps o + 9 i.

    Differs from: the paper, which adds eps1 to g**2 where torch puts it under the root at the end, and takes
        min(0.01, 1 / sqrt(t)) for any lr; torch's form here. A root mean square that is NaN cuts nothing, as
        in torch.
    Source: Shazeer and Stern 2018 (arXiv 1804.04235), algorithms 4 and 5.
    """

    scope: ClassVar = "matrix"
    keys: ClassVar[tuple[str, ...]] = ("row_var", "col_var", "variance")
    counts: ClassVar[bool] = True
    domains: ClassVar[Domains] = DOMAINS
    kernel: ClassVar[Own | None] = Own("downslope.optim.kernel.factored:FactoredStep", "its own loops")

    lr: float = 1e-2
    beta2_decay: float = -0.8
    eps: tuple[float | None, float] = (None, 1e-3)
    d: float = 1.0
    weight_decay: float = 0.0
    factor: str = "last"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value in self.fields().items():
            if isinstance(value, Tensor):
                raise RecipeError(
                    f"{name} holds {value.numel()} numbers: Adafactor looks at whole matrices, it takes one"
                )

    def keys_of(self, p: Tensor) -> tuple[str, ...]:
        return ("row_var", "col_var") if p.ndim > 1 else ("variance",)

    def remember(self, tensors: Iterable[Tensor]) -> FactoredSquares | Squares:
        held = tuple(tensors)
        return FactoredSquares(*held) if len(held) == 2 else Squares(*held)

    def init(self, p: Tensor) -> FactoredSquares | Squares:
        if p.ndim < 2:
            return Squares(torch.zeros_like(p))
        *outer, m, n = self.shape(p)
        return FactoredSquares(p.new_zeros((*outer, m, 1)), p.new_zeros((*outer, 1, n)))

    def shape(self, p: Tensor) -> tuple[int, ...]:
        """The shape whose last two dimensions are factored; p's own below two."""
        if self.factor == "last" or p.ndim < 3:
            return tuple(p.shape)
        return p.shape[0], math.prod(p.shape[1:])

    def at(self, t: int) -> Scalars:
        gain = float(t) ** self.beta2_decay
        rate = min(self.lr, 1.0 / math.sqrt(t))
        shrink = self.lr * self.weight_decay
        low, least = self.eps
        return Scalars(
            keep=1.0 - gain, gain=gain, low=low, least=least, rate=rate, d=self.d, shrink=shrink
        )  # fmt: skip

    def update(
        self, g: Tensor, state: FactoredSquares | Squares, p: Tensor, k: Scalars
    ) -> tuple[Tensor, FactoredSquares | Squares]:
        low, g = low_of(k, p), g.reshape(self.shape(p))
        if isinstance(state, FactoredSquares):
            R = k.keep * state.R + k.gain * (g * g).mean(-1, keepdim=True)
            C = k.keep * state.C + k.gain * (g * g).mean(-2, keepdim=True)
            after = FactoredSquares(R, C)
            v = R * C / R.mean(-2, keepdim=True).clamp(min=low)
        else:
            v = k.keep * state.V + k.gain * (g * g)
            after = Squares(v)
        u = g / v.clamp(min=low * low).sqrt()
        step = at_least(rms(p), k.least) * k.rate / at_least(rms(u) / k.d, 1.0)
        return (step * u).reshape(p.shape) + k.shrink * p, after

    def in_place(
        self, p: Tensor, g: Tensor, state: FactoredSquares | Squares, k: Scalars, sign: float
    ) -> bool:
        return step_in_pieces(p, g, self.shape(p), state, low_of(k, p), k, sign)


def low_of(k: Scalars, p: Tensor) -> float:
    """eps1: that of the arithmetic's dtype unless it was given."""
    low: float | None = vars(k)["low"]
    return torch.finfo(torch.promote_types(p.dtype, torch.float32)).eps if low is None else low


def rms(x: Tensor) -> Tensor:
    """The root of the mean of squares."""
    return x.square().mean().sqrt()


def at_least(x: Tensor, low: Any) -> Tensor:
    """`x`, or `low` where it is less, or NaN."""
    return torch.where(x > low, x, low)


class Adafactor(Optimizer):
    """Adafactor: ``p = p - max(eps2, RMS(p)) min(lr, 1 / sqrt(t)) U / max(1, RMS(U) / d)``, U = g / sqrt(V).

    V, the moving mean of g**2, is the product of its rows' and columns' means where p is a matrix (see
    `ScaleByFactors`), so that an (m, n) matrix keeps m + n numbers. The step is relative to the weights: lr
    is the share by which they may change. Equivalent to ``torch.optim.Adafactor``: same arguments, defaults
    and state.

    Args:
        params: parameters, named parameters, or groups of them.
        lr: largest relative step, and the rate of the decay, in [0, inf).
        beta2_decay: exponent in (-inf, 0]: the mean of g**2 keeps ``1 - t**beta2_decay``.
        eps: (eps1, eps2), the least root mean squares of g and of the weights, each in [0, inf); eps1 None is
            the eps of each parameter's dtype, of float32 for half precision.
        d: the root mean square from which U is cut, in [1, inf).
        weight_decay: decoupled decay in [0, inf).
        factor: ``"last"``, the last two dimensions, as torch; ``"matrix"``, the first against all others,
            which spares convolutions most of the state.
        maximize: climb in place of descend.
        backend: ``"reference"``, ``"eager"``, ``"kernel"``, or None for the fastest that fits.
        **options: see `downslope.optim.options.Options`.

    Raises:
        RecipeError: a hyper-parameter outside its domain.

    Differs from: `torch.optim.Adafactor`, which takes eps1 None as the eps of the first parameter's dtype for
        all parameters of a group (torch 2.13, ``if eps1 is None`` inside of its loop), and of bfloat16 as
        2**-7, below which no gradient is scaled; here every parameter has that of its own arithmetic.
        In float32 torch's ``row_var @ col_var`` overflows from gradients of 1e10 on, our kernel's not.
    Source: Shazeer and Stern 2018, algorithms 4 and 5; the decay as in torch.
    """

    source = "Shazeer and Stern 2018, algorithms 4 and 5"
    implementation = ("foreach",)
    domains: ClassVar[Domains] = DOMAINS

    def __init__(
        self,
        params: Params,
        lr: float = 1e-2,
        beta2_decay: float = -0.8,
        eps: tuple[float | None, float] = (None, 1e-3),
        d: float = 1.0,
        weight_decay: float = 0.0,
        *,
        factor: str = "last",
        maximize: bool = False,
        backend: str | None = None,
        **options: Unpack[Options],
    ) -> None:
        settings = {
            "lr": lr,
            "beta2_decay": beta2_decay,
            "eps": eps,
            "d": d,
            "weight_decay": weight_decay,
            "factor": factor,
            "maximize": maximize,
        }
        super().__init__(params, settings, backend=backend, implementation=options)

    @classmethod
    def compose(cls, settings: Mapping[str, Any]) -> Chain:
        names = ("lr", "beta2_decay", "eps", "d", "weight_decay", "factor")
        return chain(ScaleByFactors(**{name: settings[name] for name in names}))
