"""He's (or MSRA's, or Kaiming's) initialisation, for ReLU (He, Zhang, Ren and Sun 2015, equation 10).

ReLU passes half of the second moment, and variance ``2/n_in`` makes up for it. `torch.nn.Linear` and the
convolutions start instead from ``kaiming_uniform_(a=sqrt(5))``, whose variance is ``1/(3 n_in)``: a sixth.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from downslope.init.draw import fans, gaussian, uniform


def he(weight: Tensor, generator: torch.Generator | None = None) -> None:
    """Fill from N(0, 2/n_in), in place; equivalent to ``kaiming_normal_(nonlinearity="relu")`` in torch.

    Args:
        weight: shape (out, in, ...).
        generator: of the draws, on the CPU; by default torch's own.

    Raises:
        ModelError: fewer than two axes.
    """
    gaussian(weight, math.sqrt(2 / fans(weight)[0]), generator)


def he_uniform(weight: Tensor, generator: torch.Generator | None = None) -> None:
    """Fill from U(-a, a), ``a = sqrt(6/n_in)``, in place; ``kaiming_uniform_(nonlinearity="relu")`` in torch.

    The variance is that of `he`, 2/n_in.

    Args:
        weight: shape (out, in, ...).
        generator: of the draws, on the CPU; by default torch's own.

    Raises:
        ModelError: fewer than two axes.
    """
    uniform(weight, math.sqrt(2 / fans(weight)[0]), generator)
