"""Adaptive gradient clipping: each unit's gradient against its weights (Brock et al. 2021, equation 3)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from downslope.optim.domains import ABOVE_ZERO, Domains, Interval
from downslope.optim.rule import Rule, Scalar, Scalars, Scope, Stateless

__all__ = ["ClipAdaptive"]


@dataclass(frozen=True, kw_only=True)
class ClipAdaptive(Rule[Stateless]):
    """Shortens a unit's gradient to a share of its weights: where ``|g_i| > c max(|p_i|, least)``, ``g_i``
    becomes ``c max(|p_i|, least) g_i / |g_i|``.

    A unit i is what one output has: row i of a matrix, filter i of a convolution (all dimensions but the
    first); a vector or a number is one unit. c is `clipping` in (0, inf], 0.01 as in the paper, inf clips
    nothing; `least_norm` in [0, inf), the paper's eps, lets weights that start at zero move. No state. The
    paper leaves the last linear layer out: give it a group of its own with ``clipping=inf``.

    Differs from: the authors' code in JAX, whose units lie in the last dimension, as its layers store them.
    Source: Brock, De, Smith and Simonyan 2021, "High-performance large-scale image recognition without
    normalization", equation 3.
    """

    scope: ClassVar[Scope] = "matrix"
    domains: ClassVar[Domains] = {
        "clipping": Interval(
            ABOVE_ZERO,
            math.inf,
            "the largest ratio of a unit's gradient to its weights",
            "0.01 is usual",
            closed=True,
        ),
        "least_norm": Interval(0.0, math.inf, "the least norm that weights count as", "0.001 is usual"),
    }

    clipping: Scalar = 0.01
    least_norm: Scalar = 1e-3

    @property
    def idle(self) -> bool:
        return isinstance(self.clipping, float) and self.clipping == math.inf

    def init(self, p: Tensor) -> Stateless:
        return ()

    def at(self, t: int) -> Scalars:
        return Scalars(share=self.clipping, least=self.least_norm)

    def update(self, g: Tensor, state: Stateless, p: Tensor, k: Scalars) -> tuple[Tensor, Stateless]:
        most = k.share * torch.clamp(unit_norms(p), min=float(k.least))
        norm = unit_norms(g)
        return torch.where(norm > most, (most / norm).to(g.dtype) * g, g), ()


def unit_norms(x: Tensor) -> Tensor:
    """The Euclidean norm of each unit of `x`, in float64, shaped such that it broadcasts against it."""
    dims = tuple(range(1, x.ndim)) if x.ndim > 1 else tuple(range(x.ndim))
    if not dims:
        return x.abs().double()
    return torch.linalg.vector_norm(x, dim=dims, keepdim=True, dtype=torch.float64)
