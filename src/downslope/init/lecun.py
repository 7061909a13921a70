"""LeCun's initialisation (LeCun, Bottou, Orr and Müller 1998, Efficient BackProp, section 4.6)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from downslope.init.draw import fans, gaussian, uniform


def lecun(weight: Tensor, generator: torch.Generator | None = None) -> None:
    """Fill from N(0, 1/n_in), in place: a linear unit keeps the variance of its inputs.

    The form that SELU asks for, and the ``1/n`` form of Xavier; equivalent to
    ``kaiming_normal_(nonlinearity="linear")`` in torch, which has no name of its own for it.

    Args:
        weight: shape (out, in, ...).
        generator: of the draws, on the CPU; by default torch's own.

    Raises:
        ModelError: fewer than two axes.
    """
    gaussian(weight, math.sqrt(1 / fans(weight)[0]), generator)


def lecun_uniform(weight: Tensor, generator: torch.Generator | None = None) -> None:
    """Fill from U(-a, a), ``a = sqrt(3/n_in)``, in place.

    The variance is that of `lecun`, 1/n_in; ``kaiming_uniform_(nonlinearity="linear")`` in torch.
    `torch.nn.Linear` starts from ``a = sqrt(1/n_in)``: a third of it.

    Args:
        weight: shape (out, in, ...).
        generator: of the draws, on the CPU; by default torch's own.

    Raises:
        ModelError: fewer than two axes.
    """
    uniform(weight, math.sqrt(1 / fans(weight)[0]), generator)
