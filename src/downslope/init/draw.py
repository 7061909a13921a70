"""What the initialisations share: the fans of a weight, and draws that are the same on every device."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from downslope.core.errors import ModelError


def fans(weight: Tensor) -> tuple[int, int]:
    """``(n_in, n_out)``: the inputs that an output sums, and the outputs that an input reaches.

    Args:
        weight: shape (out, in) or (out, in, *kernel); a kernel's entries count on both sides.

    Returns:
        Both counts.

    Raises:
        ModelError: fewer than two axes.
    """
    if weight.ndim < 2:
        raise ModelError(
            f"a weight of shape {tuple(weight.shape)} has no inputs and outputs to balance; it needs two axes"
        )
    kernel = math.prod(weight.shape[2:])
    return weight.shape[1] * kernel, weight.shape[0] * kernel


@torch.no_grad()
def gaussian(weight: Tensor, std: float, generator: torch.Generator | None) -> None:
    """Fill with N(0, std**2). Drawn on the CPU, so that a seed means one thing on every device.

    A complex weight has the variance ``E|w|**2 = std**2``, half of it in each part (Trabelsi et al. 2018,
    section 3.6: |w| is then Rayleigh distributed).
    """
    kind = torch.complex64 if weight.is_complex() else torch.float32
    weight.copy_(torch.randn(weight.shape, generator=generator, dtype=kind) * std)


@torch.no_grad()
def uniform(weight: Tensor, std: float, generator: torch.Generator | None) -> None:
    """Fill from U(-a, a) with ``a = sqrt(3) std``, which has the deviation `std`.

    Of a complex weight real and imaginary part are drawn alike, with half of the variance each.
    """
    parts = 2 if weight.is_complex() else 1
    bound = math.sqrt(3 / parts) * std
    drawn = [(2 * torch.rand(weight.shape, generator=generator) - 1) * bound for _ in range(parts)]
    weight.copy_(torch.complex(*drawn) if parts == 2 else drawn[0])
