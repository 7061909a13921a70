"""A normal distribution of one deviation, whatever the size of the layer."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from downslope.core.errors import ModelError
from downslope.init.draw import gaussian


def normal(weight: Tensor, generator: torch.Generator | None = None, *, std: float = 0.01) -> None:
    """Fill from N(0, std**2), in place; equivalent to `torch.nn.init.normal_`.

    The signal shrinks or grows by ``std * sqrt(n_in)`` in every layer, so one deviation suits one width.

    Args:
        weight: any shape.
        generator: of the draws, on the CPU; by default torch's own.
        std: float in [0, inf); 0.01 is that of AlexNet (Krizhevsky, Sutskever and Hinton 2012).

    Raises:
        ModelError: a deviation that is negative or not finite.
    """
    if not 0 <= std < math.inf:
        raise ModelError(f"normal: std={std}: must lie in [0, inf), it is a deviation; 0.01 is usual")
    gaussian(weight, std, generator)
