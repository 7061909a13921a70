"""Computation in a wider precision than the tensors that code holds: they are widened where they meet it.

A model is cast by its parameters and buffers. What its code or an objective holds besides (the weights of
classes in a closure, a constant made in `forward`, an attribute that is no buffer) keeps its own precision,
and most functions of torch refuse to mix two.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

_WRITING = {"__setitem__", "__iadd__", "__isub__", "__imul__", "__itruediv__", "__ipow__", "__ifloordiv__"}
_ASKING = {"__get__", "__set__", "to", "type", "is_floating_point", "dim", "size", "float", "double", "half"}


class Widened(TorchFunctionMode):
    """A block in which functions of floating tensors of several precisions compute in the widest of them.

    What is made from no tensor (`torch.zeros`, `torch.eye`, `torch.randn`) is of `dtype` unless it asks for
    another; random numbers are those of the narrower type. What writes into a tensor leaves that as it is.

    Args:
        dtype: In which it is computed.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        del types
        name, given = getattr(func, "__name__", ""), kwargs or {}
        if name in _ASKING:
            return func(*args, **given)
        inside = [each for each in pytree.tree_leaves((args, given)) if isinstance(each, Tensor)]
        if not inside:
            return self._made(func(*args, **given), asked=given.get("dtype") is not None)
        if name in _WRITING or (name.endswith("_") and not name.endswith("__")) or "out" in given:
            return func(*args, **given)
        kinds = {each.dtype for each in inside if each.is_floating_point()}
        if len(kinds) > 1:
            widest = max(kinds, key=lambda kind: torch.finfo(kind).bits)
            args, given = pytree.tree_map_only(Tensor, lambda each: _cast(each, widest), (args, given))
        return func(*args, **given)

    def _made(self, found: Any, *, asked: bool) -> Any:
        """What was made from no tensor."""
        return found if asked or not isinstance(found, Tensor) else _cast(found, self.dtype)


def _cast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """In `dtype` where it is floating and narrower."""
    narrower = tensor.is_floating_point() and torch.finfo(tensor.dtype).bits < torch.finfo(dtype).bits
    return tensor.to(dtype) if narrower else tensor
