"""What users give as data, as tensors: arrays, frames and lists of numbers, in containers or alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from downslope.core import batches
from downslope.core.errors import DataError
from downslope.core.names import did_you_mean


def as_tensors(data: Any, what: str) -> Any:
    """A pytree of tensors: containers of arrays stay, and an inner list of numbers becomes one tensor."""
    if isinstance(data, Mapping):
        fields = cast("Mapping[str, Any]", data).items()
        tree: Any = {key: _part(value, f"{what}[{key!r}]") for key, value in fields}
    elif isinstance(data, (tuple, list)) and any(_is_part(each) for each in cast("Sequence[Any]", data)):
        items = enumerate(cast("Sequence[Any]", data))
        tree = tuple(_part(value, f"{what}[{index}]") for index, value in items)
    else:
        return _tensor(data, what)
    batches.length(tree, what)
    return tree


def _part(data: Any, what: str) -> Any:
    if isinstance(data, (tuple, list)) and not any(_is_array(each) for each in batches.leaves(data)):
        return _tensor(data, what)
    return as_tensors(data, what)


def _is_part(value: Any) -> bool:
    return _is_array(value) or isinstance(value, (tuple, list, dict))


def _is_array(value: Any) -> bool:
    return (
        isinstance(value, (Tensor, np.ndarray)) or hasattr(value, "__array__") or hasattr(value, "to_numpy")
    )


def _tensor(data: Any, what: str) -> Tensor:
    """One tensor of an array, a data frame or a list of numbers."""
    if isinstance(data, Tensor):
        if data.layout != torch.strided:
            raise DataError(
                f"{what}: a tensor of layout {str(data.layout).removeprefix('torch.')} cannot be cut into "
                "batches; X.to_dense() makes one that can"
            )
        return data.detach()
    if data is None or isinstance(data, (str, bytes, int, float)):
        raise DataError(
            f"{what}={data!r}: must be a pair of tensors or arrays, a Dataset, a DataLoader or a path"
        )
    if isinstance(data, Iterator):
        kind = type(cast("Any", data)).__name__
        raise DataError(
            f"{what}: a {kind} can be read once only, and every epoch reads anew: give list(...), a Dataset "
            "or a DataLoader"
        )
    try:
        array = np.asarray(data)
        if array.dtype.kind == "O":
            array = array.astype(np.float64)
    except (ValueError, TypeError):
        raise DataError(f"{what}: {type(data).__name__} cannot be read as numbers of one shape") from None
    if array.dtype.kind not in "fiub":
        raise DataError(f"{what}: values of type {array.dtype} are no numbers; encode them first")
    if array.dtype.kind == "u" and array.dtype.itemsize > 1:
        array = array.astype(np.int64)
    array = np.ascontiguousarray(array)
    return torch.as_tensor(array if array.flags.writeable else array.copy())


def framed(data: Any, target: str | None, what: str, like: Any = None) -> Any:
    """Inputs and target of a data frame of numbers; anything else as it is.

    Args:
        data: a frame of pandas or polars, or what is none.
        target: the column to predict.
        what: Name in messages: "train" or "valid".
        like: the frame whose order of columns is taken; others than it has are left out.

    Raises:
        DataError: no target or no such column, a column that holds no numbers, or a target for data that has
            its own.
    """
    frame: Any = data
    if not all(hasattr(frame, name) for name in ("columns", "to_numpy", "shape")):
        if (
            target is not None
            and what == "train"
            and isinstance(data, (tuple, list, Mapping, Tensor, np.ndarray))
        ):
            raise DataError(
                f"target={target!r} goes with a path or a data frame; train has a target of its own"
            )
        return frame
    name: Any = target
    if name is not None and not isinstance(name, str):
        raise DataError(f"target={name!r}: must be the name of one column; of several give (X, Y)")
    columns = [str(each) for each in frame.columns]
    if len(set(columns)) < len(columns):
        twice = next(each for each in columns if columns.count(each) > 1)
        raise DataError(f"{what}: the data frame has two columns {twice!r}; rename one")
    if target is None:
        raise DataError(
            f"{what}: a data frame alone does not tell its target: say target='column', or give (X, y)"
        )
    if target not in columns:
        raise DataError(f"{what}: the data frame has no column {target!r}{did_you_mean(target, columns)}")
    parts: dict[str, Tensor] = {}
    for name, given in zip(columns, frame.columns, strict=True):
        try:
            parts[name] = _tensor(frame[given].to_numpy(), what)
        except DataError:
            raise DataError(
                f"{what}: column {name!r} of the data frame holds no numbers; saved as CSV or Parquet and "
                "given by its path such a column is encoded, or leave it out"
            ) from None
    order = [str(each) for each in like.columns] if hasattr(like, "columns") else columns
    lacking = next((each for each in order if each not in parts), None)
    if lacking is not None:
        raise DataError(f"{what}: the data frame has no column {lacking!r}, and that of training has one")
    inputs = [parts[each] for each in order if each != target]
    if not inputs:
        raise DataError(f"{what}: the data frame has the target {target!r} alone, and no inputs")
    return torch.stack([each.to(torch.float64) for each in inputs], 1), parts[target]
