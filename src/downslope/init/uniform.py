"""A uniform distribution of one width, whatever the size of the layer."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from downslope.core.errors import ModelError
from downslope.init import draw


def uniform(weight: Tensor, generator: torch.Generator | None = None, *, bound: float = 0.05) -> None:
    """Fill from U(-bound, bound), in place: variance ``bound**2 / 3``; `torch.nn.init.uniform_`.

    Args:
        weight: any shape.
        generator: of the draws, on the CPU; by default torch's own.
        bound: float in [0, inf); 0.05 is that of Keras' ``RandomUniform``.

    Raises:
        ModelError: a bound that is negative or not finite.
    """
    if not 0 <= bound < math.inf:
        raise ModelError(
            f"uniform: bound={bound}: must lie in [0, inf), weights lie between -bound and bound"
        )
    draw.uniform(weight, bound / math.sqrt(3), generator)
