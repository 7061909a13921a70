"""He's (or MSRA's, or Kaiming's) initialisation, for ReLU (He, Zhang, Ren and Sun 2015, equation 10).

ReLU passes half of the second moment, and variance ``2/n_in`` makes up for it. `torch.nn.Linear` and the
convolutions start instead from ``kaiming_uniform_(a=sqrt(5))``, whose variance is ``1/(3 n_in)``: a sixth.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from downslope.core.errors import ModelError
from downslope.init.draw import fans, gaussian, uniform


def he(weight: Tensor, generator: torch.Generator | None = None, *, slope: float = 0.0) -> None:
    """Fill from N(0, 2/((1 + slope**2) n_in)), in place; ``kaiming_normal_(a=slope)`` in torch.

    Args:
        weight: shape (out, in, ...).
        generator: of the draws, on the CPU; by default torch's own.
        slope: finite float, of the activation below zero: 0 for ReLU, that of a leaky one (equation 15).

    Raises:
        ModelError: fewer than two axes, or a slope that is not finite.
    """
    gaussian(weight, _deviation(weight, slope), generator)


def he_uniform(weight: Tensor, generator: torch.Generator | None = None, *, slope: float = 0.0) -> None:
    """Fill from U(-a, a), ``a = sqrt(6/((1 + slope**2) n_in))``, in place; ``kaiming_uniform_`` in torch.

    The variance is that of `he`.

    Args:
        weight: shape (out, in, ...).
        generator: of the draws, on the CPU; by default torch's own.
        slope: finite float, of the activation below zero.

    Raises:
        ModelError: fewer than two axes, or a slope that is not finite.
    """
    uniform(weight, _deviation(weight, slope), generator)


def _deviation(weight: Tensor, slope: float) -> float:
    if not math.isfinite(slope):
        raise ModelError(f"he: slope={slope}: must be finite, it is that of the activation below zero")
    return math.sqrt(2 / ((1 + slope**2) * fans(weight)[0]))
