"""Batches as pytrees: any nesting of tuples, lists and dicts with tensors at its leaves."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.utils import _pytree as pytree  # torch's own; it knows the containers that libraries register

from downslope.core.errors import DataError


class Parts(NamedTuple):
    """A batch taken apart: ``output = model(*args, **kwargs)``, then ``objective(output, target)``."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    target: Any


Split = Callable[[Any], tuple[tuple[Any, ...], dict[str, Any], Any]]


TARGETS = ("labels", "label", "target", "targets", "y")
"""Keys of a dict that is a batch, of which the first that is there holds the target."""


def target_key(batch: Mapping[str, Any]) -> str | None:
    """The key under which a dict has its target; None where it has none of `TARGETS`."""
    return next((key for key in TARGETS if key in batch), None)


def default_split(batch: Any) -> Parts:
    """The last element is the target, what stands before it goes to the model.

    A dict's target is its key ``labels`` (or another of `TARGETS`), the other keys are keyword arguments. A
    single tensor is input and target at once (an autoencoder).
    """
    if isinstance(batch, Mapping):
        fields = dict(cast("Mapping[str, Any]", batch))
        return Parts((), fields, fields.pop(target_key(fields) or "labels", None))
    if isinstance(batch, (tuple, list)) and len(cast("Sequence[Any]", batch)) > 1:
        items = tuple(cast("Sequence[Any]", batch))
        return Parts(items[:-1], {}, items[-1])
    if isinstance(batch, (tuple, list)):
        (batch,) = cast("Sequence[Any]", batch)
    return Parts((batch,), {}, batch)


def whole_split(batch: Any) -> Parts:
    """The whole batch goes to the model, which returns an output with a ``loss`` (``objective=None``).

    A dict's key ``labels`` (or another of `TARGETS`) is the target that a metric sees besides.
    """
    if isinstance(batch, Mapping):
        fields = dict(cast("Mapping[str, Any]", batch))
        return Parts((), fields, fields.get(target_key(fields) or "labels"))
    items = cast("Sequence[Any]", batch) if isinstance(batch, (tuple, list)) else (batch,)
    return Parts(tuple(items), {}, None)


def leaves(tree: Any) -> list[Any]:
    """The leaves of a pytree in stored order."""
    return pytree.tree_leaves(tree)


def tensors(tree: Any) -> list[Tensor]:
    """The tensors among the leaves."""
    return [leaf for leaf in leaves(tree) if isinstance(leaf, Tensor)]


def map_tensors(function: Callable[[Tensor], Any], tree: Any) -> Any:
    """`tree` with every tensor replaced by ``function(tensor)``; other leaves stay."""
    return pytree.tree_map_only(Tensor, function, tree)


UNSIGNED = (torch.uint16, torch.uint32, torch.uint64)
"""Types that torch stores and computes nothing with, not even an order."""


def signed(batch: Any) -> Any:
    """`batch` with whole numbers of these types as int64."""
    if not any(leaf.dtype in UNSIGNED for leaf in tensors(batch)):
        return batch
    return map_tensors(lambda leaf: leaf.long() if leaf.dtype in UNSIGNED else leaf, batch)


def length(batch: Any, what: str = "batch") -> int:
    """Number of examples: the first dimension that all tensors share.

    Raises:
        DataError: no tensor, a scalar, or differing first dimensions.
    """
    sizes = {leaf.shape[0] if leaf.dim() else -1 for leaf in tensors(batch)}
    if len(sizes) != 1 or -1 in sizes:
        shapes = ", ".join(str(tuple(leaf.shape)) for leaf in tensors(batch)) or "no tensors"
        raise DataError(f"{what}: {shapes}; every tensor needs the same first dimension, the examples")
    return sizes.pop()


def size_of(batch: Any) -> int:
    """Bytes that the tensors of `batch` take."""
    return sum(leaf.numel() * leaf.element_size() for leaf in tensors(batch))


def take(batch: Any, index: Tensor) -> Any:
    """The examples at `index` (int64, shape (k,)), as a new batch of the same structure."""
    return map_tensors(lambda leaf: leaf.index_select(0, index), batch)


def slices(batch: Any, size: int) -> Iterator[Any]:
    """`batch` cut along the first dimension into views of `size` examples, the last maybe smaller."""
    flat, spec = pytree.tree_flatten(batch)
    columns: list[Iterable[Any]] = [
        torch.split(leaf, size) if isinstance(leaf, Tensor) else itertools.repeat(leaf) for leaf in flat
    ]
    rows = zip(*columns, strict=False)
    if type(batch) is tuple and all(isinstance(each, Tensor) for each in cast("tuple[Any, ...]", batch)):
        yield from rows
        return
    for row in rows:
        yield pytree.tree_unflatten(list(row), spec)


def to(batch: Any, device: torch.device, dtype: torch.dtype | None = None) -> Any:
    """`batch` on `device`; floating leaves cast to `dtype`, of a complex one to that of its parts."""
    dtype = dtype.to_real() if dtype is not None and dtype.is_complex else dtype

    def move(leaf: Tensor) -> Tensor:
        return leaf.to(device, dtype if dtype is not None and leaf.is_floating_point() else leaf.dtype)

    return map_tensors(move, batch)


def join(outputs: Sequence[Any], sizes: Sequence[int] | None = None) -> Any:
    """Outputs of several batches joined along the first dimension, structure kept.

    Dataclasses and other objects are joined field by field. Scalars, numbers and None are those of the last
    batch.

    Args:
        outputs: One a batch.
        sizes: Examples of each batch. With them a tensor beside others is joined along its dimension of the
            examples, be it not the first (the states of an LSTM, shape (layers, n, width)), and one without
            such a dimension is that of the last batch.

    Raises:
        DataError: no batch, or an output of which nothing says how to join it.
    """
    if not outputs:
        raise DataError("no outputs to join: the data has no batches")
    if len(outputs) == 1:
        return outputs[0]
    return _join(outputs, None if isinstance(outputs[0], Tensor) else sizes)


def _join(outputs: Sequence[Any], sizes: Sequence[int] | None) -> Any:
    flat = [pytree.tree_flatten(output) for output in outputs]
    spec = flat[0][1]
    columns = zip(*(leaf_list for leaf_list, _ in flat), strict=True)
    return pytree.tree_unflatten([_joined(column, sizes) for column in columns], spec)


def _joined(column: Sequence[Any], sizes: Sequence[int] | None) -> Any:
    last = column[-1]
    if isinstance(last, Tensor):
        axis = axis_of_examples(column, sizes) if last.dim() else None
        return last if axis is None else torch.cat(list(column), axis)
    if last is None or isinstance(last, (str, int, float)):
        return last
    if not isinstance(last, Mapping) and not hasattr(last, "__dict__"):
        raise DataError(
            f"outputs of type {type(last).__name__} cannot be joined over batches: return tensors, or "
            "tuples, dicts or dataclasses of them"
        )
    whole: Any = copy.copy(cast("Any", last))
    for name in cast("dict[str, Any]", getattr(whole, "__dict__", {})):
        object.__setattr__(whole, name, _join([vars(each)[name] for each in column], sizes))
    if isinstance(last, Mapping):  # a class of a library's own
        for key in list(cast("Mapping[Any, Any]", last)):
            whole[key] = _join([each[key] for each in column], sizes)
    return whole


def axis_of_examples(column: Sequence[Tensor], sizes: Sequence[int] | None) -> int | None:
    """The dimension along which one leaf of several batches counts the examples; None where none does.

    Without `sizes` it is the first. With them, the first that has the size of the batch in each of them; else
    the first where it is the same multiple of that size in each (steps of all examples in a row).
    """
    if sizes is None:
        return 0
    pairs = list(zip(column, sizes, strict=True))
    for axis in range(column[0].dim()):
        if all(leaf.dim() > axis and leaf.shape[axis] == size for leaf, size in pairs):
            return axis
    several = column[0].shape[0] // sizes[0]
    return 0 if several and all(leaf.shape[0] == several * size for leaf, size in pairs) else None
