"""Sparse gradients as lazy rows: what a gradient names is stepped by the rules, the rest is left alone.

    i, g  = the gradient's indices, each once, and its values
    p[i], state[i]  ->  the chain's step  ->  p[i], state[i]

For SGD and AdaGrad that is the step of the dense gradient, whose zeros move nothing. For Adam it is another
method: means of rows that are not named do not decay, and the rows do not drift on (torch.optim.SparseAdam).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from downslope.core.errors import RecipeError
from downslope.optim.rounding import widened
from downslope.optim.rule import Chain, Rule

__all__ = ["check_lazy", "coalesced", "index_of", "is_sparse", "put", "taken"]

_OFF = ("weight_decay", "momentum")
"""Settings that make a link idle at 0, which moves every row otherwise."""


def is_sparse(g: Tensor) -> bool:
    """Whether `g` holds some of its elements only."""
    return g.layout != torch.strided


def coalesced(g: Tensor) -> Tensor:
    """`g` with every index once; values of one index are added up, in float32 if they have half precision."""
    if not g.is_coalesced() and g.dtype.itemsize < 4:
        g = torch.sparse_coo_tensor(g._indices(), widened(g._values()), g.shape, check_invariants=False)
    return g.coalesce()


def index_of(g: Tensor) -> Tensor | tuple[Tensor, ...]:
    """The indices of a coalesced gradient, such that ``p[index_of(g)]`` are the rows that it names."""
    index = tuple(g.indices().unbind())
    return index[0] if len(index) == 1 else index


def taken(whole: Tensor, at: Any) -> Tensor:
    """``whole[at]``, which for rows at a tensor of indices is several times as fast as that."""
    return whole.index_select(0, at) if isinstance(at, Tensor) else whole[at]


def put(whole: Tensor, at: Any, value: Tensor) -> None:
    """``whole[at] = value``."""
    if isinstance(at, Tensor):
        whole.index_copy_(0, at, value)
    else:
        whole[at] = value


def _off(link: Rule[Any]) -> list[str]:
    """The settings that make `link` idle."""
    can = type(link).idle is not Rule.idle
    return [f"{name}=0" for name in _OFF if can and name in link.fields()]


def check_lazy(p: Tensor, chain: Chain, forced: str | None) -> None:
    """Refuses a sparse gradient of `p` where the active `chain` moves rows that it does not name.

    Raises:
        RecipeError: a link that is not lazy, or a backend whose kernel reads whole tensors.
    """
    moving = [link for link in chain.links if not link.lazy]
    if moving:
        names = " and ".join(type(link).__name__ for link in moving)
        off = [_off(link) for link in moving]
        instead = f", or {', '.join(each[0] for each in off)}" if all(off) else ""
        raise RecipeError(
            f"the gradient of a parameter of shape {tuple(p.shape)} is sparse, and {names} "
            f"move{'s' * (len(moving) == 1)} rows that it does not name: set sparse=False in the "
            f"embedding{instead}"
        )
    if forced not in (None, "reference", "eager"):
        raise RecipeError(
            f"backend={forced!r}: the gradient of a parameter of shape {tuple(p.shape)} is sparse, its "
            "kernel reads whole tensors; use backend=None"
        )
