"""Large tensors in pieces that a cache holds, and gradients that lie otherwise than their parameters.

    p, state, g  ->  elements 0 to 2**16 - 1 of each, elements 2**16 to ..., in the order of p's memory

So that no temporary, nor any copy, has the size of a large tensor.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from downslope.optim.looks import is_dense
from downslope.optim.rounding import HALVES, widened

__all__ = ["PIECE", "Along", "aligned", "flat", "pieces_of", "portions"]

# The eager backend works through pieces of about this many elements, so that a piece stays in the cache from
# one list operation to the next (bench/optimizers.py).
PIECE = 1 << 16

_ROW = 1 << 18
"""Elements up to which rows of a gradient are copied some at a time."""


class Along:
    """A gradient's elements in the order of its parameter's memory, copied some rows at a time.

    Memory: the rows that are asked for; where one has more than 2**18 elements, the whole tensor.

    Args:
        g: the gradient.
        strides: of the parameter, which is dense in memory.
    """

    def __init__(self, g: Tensor, strides: Sequence[int]) -> None:
        order = sorted(range(g.ndim), key=lambda i: (g.shape[i] > 1, strides[i]), reverse=True)
        self.g = g.permute(order)
        self.row = g.numel() // self.g.shape[0] if order and g.numel() else 1
        self.low = self.high = 0
        self.held = g.new_empty(0)

    def of(self, start: int, end: int) -> Tensor:
        """Elements from `start` to before `end`, flat."""
        low, high = start // self.row, -(-end // self.row)
        if not self.low <= low <= high <= self.high:
            if self.g.is_contiguous() or self.row > _ROW:
                low, high = 0, self.g.shape[0] if self.g.ndim else 1
            self.low, self.high = low, high
            self.held = (self.g[low:high] if self.g.ndim else self.g).reshape(-1).contiguous()
        return self.held[start - self.low * self.row : end - self.low * self.row]


def aligned(g: Tensor, p: Tensor) -> Tensor:
    """`g`, or a copy of it that has the dtype of `p` and lies in memory as it does."""
    return g if (g.dtype, g.stride()) == (p.dtype, p.stride()) else torch.empty_like(p).copy_(g)


def pieces_of(params: Sequence[Tensor]) -> list[slice]:
    """Pieces of so many tensors that they have about `PIECE` elements together."""
    pieces: list[slice] = []
    start = size = 0
    for i, p in enumerate(params):
        if size and size + p.numel() > PIECE:
            pieces.append(slice(start, i))
            start, size = i, 0
        size += p.numel()
    pieces.append(slice(start, len(params)))
    return pieces


def flat(tensors: Sequence[Tensor]) -> list[Tensor] | None:
    """`tensors` as one row of elements each, if they are of one shape, lie alike in memory, and are large."""
    first = tensors[0]
    if first.numel() <= PIECE or not is_dense(first):
        return None
    if any(each.shape != first.shape or each.stride() != first.stride() for each in tensors[1:]):
        return None
    return [each.as_strided((each.numel(),), (1,)) for each in tensors]


def portions(lists: list[list[Tensor]], *, whole: bool = False) -> Iterator[list[list[Tensor]]]:
    """Lists of tensors as they are, or, of one large tensor each on the CPU, in pieces that a cache holds.

    Args:
        lists: of gradients, which may lie otherwise than the others, and of half precision are widened;
            then of parameters, and of every state.
        whole: tensors are not cut.
    """
    gradients, *others = lists
    alone = not whole and len(gradients) == 1 and gradients[0].device.type == "cpu"
    rows = flat([each[0] for each in others]) if alone else None
    if rows is None:
        yield [list(map(widened, gradients)) if gradients[0].dtype in HALVES else gradients, *others]
        return
    along = Along(gradients[0], others[0][0].stride())
    for start in range(0, rows[0].numel(), PIECE):
        end = min(start + PIECE, rows[0].numel())
        yield [[widened(along.of(start, end))], *([row[start:end]] for row in rows)]
