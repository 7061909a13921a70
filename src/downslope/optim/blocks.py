"""A tensor's shape as matrix methods see it: small sides merged, large ones cut into blocks."""

from __future__ import annotations

import itertools
from functools import cache

__all__ = ["cuts", "merged", "sides"]


@cache
def merged(shape: tuple[int, ...], limit: int) -> tuple[int, ...]:
    """`shape` with neighbours made one side, from the last backwards, while their product is at most `limit`.

    It stops at two sides, so that a matrix stays one, and a convolution's kernel becomes one side with its
    inputs: ``(64, 3, 3, 3)`` is ``(64, 27)``, at 9 it is ``(64, 3, 9)``. Sides of 1 vanish before.

    Source: Shi and others 2023, section 3.2, "merging dimensions".
    """
    left = [size for size in shape if size != 1] or [1]
    sides = [left.pop()]
    while left:
        size = left.pop()
        if len(left) + 1 + len(sides) > 2 and sides[0] * size <= limit:
            sides[0] *= size
        else:
            sides.insert(0, size)
    return tuple(sides)


@cache
def cuts(shape: tuple[int, ...], limit: int) -> tuple[tuple[slice, ...], ...]:
    """Blocks that have at most `limit` along each side and together are the tensor; one for a small tensor.

    Source: Shi and others 2023, section 3.1, "blocking".
    """
    along = [[slice(start, start + limit) for start in range(0, size, limit)] for size in shape]
    return tuple(itertools.product(*along))


def sides(shape: tuple[int, ...], block: tuple[slice, ...]) -> tuple[int, ...]:
    """How long a block of a tensor of that shape is along each of its sides."""
    return tuple(len(range(*cut.indices(size))) for cut, size in zip(block, shape, strict=True))
