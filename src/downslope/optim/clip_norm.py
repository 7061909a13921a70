"""Clipping by the norm of the whole gradient (Pascanu, Mikolov and Bengio 2013, algorithm 1).

    chain(ClipNorm(max_norm=1.0), ScaleByAdam(), ScaleByLr(lr=1e-3))

`ClipNorm` measures by the Euclidean norm, `ClipNorm1` by the sum of sizes, `ClipNormInf` by the largest size;
`clip_norm(max_norm, norm_type)` takes torch's arguments and gives one of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from downslope.core.errors import RecipeError
from downslope.optim.domains import ABOVE_ZERO, Domains, Interval
from downslope.optim.rule import Rule, Scalar, Scalars, Scope, Stateless, Tally

__all__ = ["ClipNorm", "ClipNorm1", "ClipNormInf", "Shortened", "clip_norm"]

LIFT = 1e-6
"""What torch.nn.utils.clip_grad_norm_ adds to a norm before it divides by it."""


def shrinkage(norm: Tensor, most: Scalar) -> Tensor:
    """``min(1, most / (norm + 1e-6))``: by what a vector of `norm` is multiplied, as torch has it.

    NaN for a norm of NaN, 0 for an infinite one.
    """
    return torch.clamp(most / (norm + LIFT), max=1.0)


class Shortened(Rule[Stateless]):
    """A link that shortens the gradient where it is longer than ``k.most``, over its scope. No state."""

    lazy: ClassVar[bool] = True
    measures: ClassVar[tuple[str, ...]] = ("squares",)

    def init(self, p: Tensor) -> Stateless:
        return ()

    def measure(self, g: Tensor, state: Stateless, p: Tensor, k: Scalars) -> tuple[Tensor, ...]:
        return (g * g,)

    def length(self, totals: Scalars) -> Tensor:
        """How long the gradient is, of the totals."""
        return torch.sqrt(totals.squares)

    def settle(
        self, t: int, k: Scalars, totals: Scalars, tally: Mapping[str, float]
    ) -> tuple[Scalars, Tally]:
        return Scalars(shrink=shrinkage(self.length(totals), k.most)), {}

    def update(self, g: Tensor, state: Stateless, p: Tensor, k: Scalars) -> tuple[Tensor, Stateless]:
        return k.shrink * g, ()


@dataclass(frozen=True, kw_only=True)
class ClipNorm(Shortened):
    """Shortens the gradient to a norm of M where it is longer: ``g min(1, M / (|g| + 1e-6))``.

    ``|g|`` is the Euclidean norm over all parameters of the optimizer that have a gradient, in all groups;
    M is `max_norm` in (0, inf], inf, the default, clips nothing. No state; the gradient is read twice.

    A norm of NaN makes every gradient NaN, an infinite one makes zeros and NaN, as in torch. Where squares
    overflow in float32, from an element of 1.8e19 on, they are formed in float64 (on the CPU).

    Differs from: torch.nn.utils.clip_grad_norm_ in nothing but that the squares of tensors are added up in
    float64, so that large gradients are shortened and not zeroed, that a `max_norm` of 0, at which nothing
    could be trained, is refused, and that ``p.grad`` is left as it is; the paper has no 1e-6.
    Source: Pascanu, Mikolov and Bengio 2013, "On the difficulty of training recurrent neural networks",
    algorithm 1; torch.nn.utils.clip_grad_norm_.
    """

    scope: ClassVar[Scope] = "global"
    domains: ClassVar[Domains] = {
        "max_norm": Interval(
            ABOVE_ZERO, math.inf, "the largest norm of the gradient", "1 is usual", closed=True
        )
    }

    max_norm: Scalar = math.inf

    @property
    def idle(self) -> bool:
        return isinstance(self.max_norm, float) and self.max_norm == math.inf

    def at(self, t: int) -> Scalars:
        return Scalars(most=self.max_norm)


@dataclass(frozen=True, kw_only=True)
class ClipNorm1(ClipNorm):
    """`ClipNorm` by the sum of the sizes of all elements, ``|g|_1``; torch's ``norm_type=1``.

    Source: see `ClipNorm`.
    """

    measures: ClassVar[tuple[str, ...]] = ("sizes",)

    def measure(self, g: Tensor, state: Stateless, p: Tensor, k: Scalars) -> tuple[Tensor, ...]:
        return (g.abs(),)

    def length(self, totals: Scalars) -> Tensor:
        return torch.as_tensor(totals.sizes)


@dataclass(frozen=True, kw_only=True)
class ClipNormInf(ClipNorm):
    """`ClipNorm` by the largest size of all elements; torch's ``norm_type=inf``. The direction is kept.

    Source: see `ClipNorm`.
    """

    measures: ClassVar[tuple[str, ...]] = ("size",)
    peaks: ClassVar[tuple[str, ...]] = ("size",)

    def measure(self, g: Tensor, state: Stateless, p: Tensor, k: Scalars) -> tuple[Tensor, ...]:
        return (g.abs(),)

    def length(self, totals: Scalars) -> Tensor:
        return torch.as_tensor(totals.size)


_BY_NORM: dict[float, type[ClipNorm]] = {1.0: ClipNorm1, 2.0: ClipNorm, math.inf: ClipNormInf}


def clip_norm(max_norm: float, norm_type: float | str = 2.0) -> ClipNorm:
    """The link that clips by a norm, by the arguments of torch.nn.utils.clip_grad_norm_.

    Args:
        max_norm: the largest norm, in (0, inf]; 0, which torch takes, would freeze all.
        norm_type: 1, 2 or ``inf``, a number or its name.

    Raises:
        RecipeError: another norm, or `max_norm` outside its domain.
    """
    try:
        kind = _BY_NORM[float(norm_type)]
    except (KeyError, ValueError) as error:
        raise RecipeError(
            f"norm_type={norm_type!r}: must be 1, 2 or inf; another norm can be taken with "
            "torch.nn.utils.clip_grad_norm_ before the step"
        ) from error
    return kind(max_norm=max_norm)
