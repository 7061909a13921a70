"""Small tensors stepped as one: an operation of torch costs more than a few thousand elements do.

    x, s, g = all parameters, states, gradients side by side;  step, s = chain(g, s, x);  each gets its part

Rules that are operators alone make of each element what they would make of it by itself, to the bit.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from torch import Tensor

from downslope.optim import ops
from downslope.optim.flow import Lists
from downslope.optim.kernel.trace import Traced, traced
from downslope.optim.rounding import widened
from downslope.optim.rule import Chain, Scalars

__all__ = ["can_join", "is_worth_joining", "step_together"]

SMALL = 1 << 13
"""Elements of a tensor, in the mean, up to which a copy costs less than operations on each by itself."""


def can_join(chain: Chain, params: Sequence[Tensor], columns: Lists, pieces: Sequence[slice]) -> bool:
    """Whether it is worth it for a piece, the rules see elements alone, and states look as parameters."""
    if any(link.scope not in ("element", "global") for link in chain.links):
        return False
    if not any(is_worth_joining(params[piece]) for piece in pieces):
        return False
    for column in columns:
        if any(x.shape != p.shape or x.dtype != column[0].dtype for x, p in zip(column, params, strict=True)):
            return False
    return isinstance(traced(chain), Traced)


def is_worth_joining(params: Sequence[Tensor]) -> bool:
    """Whether these are several, and small."""
    return len(params) > 1 and sum(p.numel() for p in params) <= SMALL * len(params)


def step_together(
    chain: Chain,
    ks: Sequence[Scalars],
    params: list[Tensor],
    grads: list[Tensor],
    columns: Lists,
    *,
    maximize: bool,
) -> None:
    """One step of `params` and of the states in `columns`, in place.

    Memory: of all rules' intermediates, for all elements of `params`.

    Args:
        chain: rules of operators alone.
        ks: their scalars, the same for all parameters.
        params: of one dtype.
        grads: theirs, or of half precision beside float32 copies.
        columns: the states by the chain's keys.
        maximize: climb in place of descend.
    """
    x, old = ops.flattened(params), [ops.flattened(column) for column in columns]
    rest = iter(old)
    before = [link.remember(itertools.islice(rest, len(link.keys))) for link in chain.links]
    g = widened(ops.flattened(grads))
    step, after = chain.update(-g if maximize else g, before, x, ks)
    ops.foreach_copy_(params, ops.unflattened(x - step, params))
    for column, was, now in zip(columns, old, itertools.chain.from_iterable(after), strict=True):
        if now is not was:
            ops.foreach_copy_(column, ops.unflattened(now, column))
