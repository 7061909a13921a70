"""Clipping by norm, each tensor by its own, as Keras' ``clipnorm`` does."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from downslope.optim.clip_norm import Shortened
from downslope.optim.domains import ABOVE_ZERO, Domains, Interval
from downslope.optim.rule import Scalar, Scalars, Scope

__all__ = ["ClipTensor"]


@dataclass(frozen=True, kw_only=True)
class ClipTensor(Shortened):
    """Shortens the gradient of each parameter to a norm of M: ``g_i min(1, M / (|g_i| + 1e-6))``.

    ``|g_i|`` is the Euclidean norm of the one tensor; M is `max_tensor_norm` in [0, inf], inf, the default,
    clips nothing. No state; the gradient is read twice. A NaN stays in its tensor.

    Differs from: `ClipNorm`, which keeps the direction of the whole gradient; Keras has no 1e-6.
    Source: Keras, ``Optimizer(clipnorm=...)``; torch.nn.utils.clip_grad_norm_ for each parameter.
    """

    scope: ClassVar[Scope] = "tensor"
    domains: ClassVar[Domains] = {
        "max_tensor_norm": Interval(
            ABOVE_ZERO, math.inf, "the largest norm of one tensor's gradient", "1 is usual", closed=True
        )
    }

    max_tensor_norm: Scalar = math.inf

    @property
    def idle(self) -> bool:
        return isinstance(self.max_tensor_norm, float) and self.max_tensor_norm == math.inf

    def at(self, t: int) -> Scalars:
        return Scalars(most=self.max_tensor_norm)
