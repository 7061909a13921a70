"""One number everywhere: for gains and biases, and for weights the example of what symmetry does."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from downslope.core.errors import ModelError


@torch.no_grad()
def constant(weight: Tensor, generator: torch.Generator | None = None, *, value: float = 0.1) -> None:  # noqa: ARG001
    """Fill with `value`, in place; equivalent to `torch.nn.init.constant_`.

    All units of a layer start alike, get one gradient, and stay alike: the layer is worth a single unit,
    whatever its width.

    Args:
        weight: any shape.
        generator: not used; every initialisation takes one.
        value: finite float; 0.1 has no source, any number but 0 shows the same.

    Raises:
        ModelError: a value that is not finite.
    """
    if not math.isfinite(value):
        raise ModelError(f"constant: value={value}: must be a finite number")
    weight.fill_(value)
