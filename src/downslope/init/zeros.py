"""All zeros: right for biases, and for weights the example of what symmetry does."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def zeros(weight: Tensor, generator: torch.Generator | None = None) -> None:  # noqa: ARG001
    """Fill with 0, in place.

    Units that start alike get one gradient and stay alike for ever; of a deep network nothing but the last
    bias learns. Equivalent to `torch.nn.init.zeros_`.

    Args:
        weight: any shape.
        generator: not used; every initialisation takes one.
    """
    weight.zero_()
