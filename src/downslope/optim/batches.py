"""Matrices of one shape side by side: how many are taken at a time, and the rules that take them so."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from downslope.optim.flow import Flow

__all__ = ["Batched", "alike"]

# As many as have this many elements, but one for each thread at least, up to so many elements each
# (bench/matrix_methods.py).
MATRICES = 1 << 20
LARGE_MATRIX = 1 << 21


class Batched(ABC):
    """A rule without state that turns matrices of one shape into others, all of a batch at once.

    Loops made of the links around it write the batch and read what becomes of it: see `kernel.split`.
    """

    @abstractmethod
    def rooms(self, p: list[Tensor]) -> list[Tensor]:
        """Memory to work in, with whatever it holds: first a batch, one matrix for each of `p`."""

    @abstractmethod
    def lengths(self, squares: Tensor, dtype: torch.dtype) -> Tensor:
        """What each matrix is to be divided by, from its sum of squares; in float64, rounded to `dtype`."""

    @abstractmethod
    def work(self, rooms: list[Tensor], p: list[Tensor]) -> Flow:
        """What becomes of the batch in the first of the `rooms`, which was divided by `lengths`."""


def alike(params: Sequence[Tensor]) -> list[slice]:
    """Pieces of one shape each; `params` has them side by side."""
    found: list[slice] = []
    for i, p in enumerate(params):
        start = found[-1].start if found else 0
        if found and p.shape == params[start].shape and i - start < _at_once(p):
            found[-1] = slice(start, i + 1)
        else:
            found.append(slice(i, i + 1))
    return found


def _at_once(p: Tensor) -> int:
    if p.numel() > LARGE_MATRIX:
        return 1
    threads = torch.get_num_threads()
    return max(threads, MATRICES // max(1, p.numel()) // threads * threads)
