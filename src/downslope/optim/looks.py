"""Whether tensors look as they did at the last step, for which a layout was made: asked of all at once.

Kernels read flat memory. A gradient or parameter of another dtype, other strides, or with torch's bit for
lazy negation or conjugation would be read for what it is not, without a word.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from downslope.core.errors import RecipeError

__all__ = ["Held", "Looks", "Places", "are_whole", "check_memory", "has_memory", "is_dense", "kind", "plain"]

# One call for a list of tensors, a fifth of the time of asking each for its dtype, strides and bits. It is
# torch's own, and not public: where it is missing, tensors are asked one by one.
_core: Any = vars(torch)["_C"]
_guards: Any = getattr(getattr(getattr(_core, "_dynamo", None), "guards", None), "TensorGuards", None)


class Looks:
    """How these tensors look: class, shape, strides, dtype, device, bits, whether they ask for gradients.

    Args:
        tensors: dense ones.
    """

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        made = None
        if _guards is not None:
            made = _guards(*tensors, dynamic_dims_sizes=None, dynamic_dims_strides=None)
        self._check: Any = None if made is None else made.check

    def same(self, tensors: Sequence[Any]) -> bool:
        """Whether `tensors`, in their order, look the same; False where it cannot be told at once."""
        return self._check is not None and self._check(*tensors)


class Held:
    """Which objects states hold: asked by comparing dictionaries, where the same objects are equal at once.

    Args:
        states: of the parameters, by name.
    """

    def __init__(self, states: Sequence[Mapping[str, Any]]) -> None:
        self._states = [state for state in states if state]
        self._twins = [dict(state) for state in self._states]
        # Tensors of one number are equal where the numbers are: these are compared as objects.
        self._alone = [
            (state, key)
            for state in states
            for key, value in state.items()
            if isinstance(value, Tensor) and value.numel() < 2
        ]
        self._numbers = [state[key] for state, key in self._alone]

    def same(self) -> bool:
        """Whether they hold the same."""
        try:
            if self._states != self._twins:
                return False
        except (RuntimeError, TypeError, ValueError):  # tensors that are not the same have no one truth
            return False
        return all(map(operator.is_, [state[key] for state, key in self._alone], self._numbers))


def kind(x: Tensor) -> tuple[Any, ...]:
    """What a kernel has to know of a dense tensor."""
    return x.shape, x.dtype, x.device, x.stride(), x.is_neg(), x.is_conj()


def is_dense(p: Tensor) -> bool:
    """Whether `p` fills its memory without gaps or overlaps, so that kernels may read it as flat."""
    if p.is_contiguous():
        return True
    span = 1
    for stride, size in sorted(zip(p.stride(), p.shape, strict=True)):
        if size == 1:
            continue
        if stride != span:
            return False
        span *= size
    return True


_PLAIN = (torch.Tensor, torch.nn.Parameter)
_address = torch.Tensor.data_ptr


def has_memory(tensors: Sequence[Tensor]) -> bool:
    """Whether none of these was freed, as sharding does between steps: whoever read it would read at
    address 0, which ends the process.
    """
    try:
        if all(map(_address, tensors)):
            return True
    except RuntimeError:  # sparse ones, and others that lie at no one address
        pass
    return are_whole(tensors)


def are_whole(tensors: Iterable[Any]) -> bool:
    """Whether each of these has memory for all its elements; slower than `has_memory`, which asks for any."""
    return not any(map(_lacks_memory, tensors))


class Places:
    """Where tensors lie: memory that was freed, or cut to a part, lies elsewhere than before."""

    def __init__(self) -> None:
        self._held: list[int] = []

    def are_whole(self, tensors: Sequence[Tensor]) -> bool:
        """Whether `tensors` have memory for all their elements; looked into where one has moved."""
        try:
            found = list(map(_address, tensors))
        except RuntimeError:
            return are_whole(tensors)
        if found != self._held:
            if not are_whole(tensors):
                return False
            self._held = found
        return True


def _lacks_memory(x: Any) -> bool:
    if type(x) not in _PLAIN or x.device.type not in ("cpu", "cuda"):
        return False  # subclasses know by themselves where they lie
    if x.layout == torch.sparse_coo:
        return _lacks_memory(x._indices()) or _lacks_memory(x._values())
    if x.layout != torch.strided or not x.numel():
        return False
    try:
        last = x.storage_offset() + sum((n - 1) * by for n, by in zip(x.shape, x.stride(), strict=True))
        return not x._is_zerotensor() and x.untyped_storage().nbytes() < (last + 1) * x.element_size()
    except RuntimeError:
        return False


def check_memory(tensors: Iterable[Any]) -> None:
    """Refuses tensors of which nothing is left, or a part only; what is no tensor passes.

    Raises:
        RecipeError: the storage of one was freed, or is too short.
    """
    for x in tensors:
        if _lacks_memory(x):
            raise RecipeError(
                f"a parameter, gradient or state of shape {tuple(x.shape)} has no memory, or too little, as "
                "after untyped_storage().resize_(0): step, save and load while it is there"
            )


def plain(g: Tensor) -> Tensor:
    """`g`, or a copy without the bits of lazy negation and conjugation, and with memory where torch's zero
    tensor has none.
    """
    return g.clone() if g._is_zerotensor() else g.resolve_conj().resolve_neg()
