"""Products of the matrices of all members, each with the bits that it has alone."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["products"]

_LOOPED = 400
"""Multiply-adds below which ``torch.bmm`` calls no library (``aten/src/ATen/native/LinearAlgebra.cpp``)."""


def products(a: Tensor, b: Tensor, bias: Tensor | None = None, *, out: Tensor | None = None) -> Tensor:
    """``a b + bias`` for every member, with the bits that torch gives for one alone.

    Torch's product of many matrices has the same bits as that of each, but where they are so small that it
    runs a loop of its own, and where one is a vector, for which one alone has another kernel.

    Args:
        a: (M, rows, inner).
        b: (M, inner, columns).
        bias: (M, columns).
        out: Where it is written; without a bias.
    """
    rows, inner = a.shape[1:]
    columns = b.shape[2]
    if a.device.type == "cpu" and (1 in (rows, inner, columns) or rows * inner * columns < _LOOPED):
        if bias is not None:
            each = zip(bias, a, b, strict=True)
            return torch.stack([torch.addmm(beside, left, right) for beside, left, right in each])
        made = [torch.mm(left, right) for left, right in zip(a, b, strict=True)]
        return torch.stack(made) if out is None else torch.stack(made, out=out)
    if bias is not None:
        return torch.baddbmm(bias.unsqueeze(1), a, b)
    return torch.bmm(a, b) if out is None else torch.bmm(a, b, out=out)
