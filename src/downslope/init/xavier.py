"""Xavier's initialisation, for activations that are linear around zero (Glorot and Bengio 2010).

Two forms bear the name. Variance ``1/n_in`` (equation 10: the signal keeps its variance forward) is
`lecun` here, ``kaiming_normal_(nonlinearity="linear")`` in torch and "Xavier" in Caffe. Variance
``2/(n_in + n_out)`` (equation 12: the compromise with the way back) is `xavier` here and
``xavier_normal_`` in torch; the paper draws it uniformly (equation 16), which is `xavier_uniform` here and
``xavier_uniform_`` in torch. For square weights the two forms agree.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from downslope.init.draw import fans, gaussian, uniform


def xavier(weight: Tensor, generator: torch.Generator | None = None) -> None:
    """Fill from N(0, 2/(n_in + n_out)), in place; equivalent to `torch.nn.init.xavier_normal_`.

    Args:
        weight: shape (out, in, ...).
        generator: of the draws, on the CPU; by default torch's own.

    Raises:
        ModelError: fewer than two axes.
    """
    gaussian(weight, math.sqrt(2 / sum(fans(weight))), generator)


def xavier_uniform(weight: Tensor, generator: torch.Generator | None = None) -> None:
    """Fill from U(-a, a), ``a = sqrt(6/(n_in + n_out))``, in place; equivalent to `xavier_uniform_` in torch.

    The variance is that of `xavier`, 2/(n_in + n_out).

    Args:
        weight: shape (out, in, ...).
        generator: of the draws, on the CPU; by default torch's own.

    Raises:
        ModelError: fewer than two axes.
    """
    uniform(weight, math.sqrt(2 / sum(fans(weight))), generator)
