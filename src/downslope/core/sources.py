"""Where batches come from: tensors held in memory, or anybody's DataLoader."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset, default_collate

from downslope.core import batches, names, randomness
from downslope.core.errors import DataError

MEMORY_LIMIT = 2 * 2**30
"""Bytes up to which a Dataset is collated once and kept; larger ones stream through a DataLoader."""

SHUFFLE_LIMIT = 256 * 2**20
"""Bytes up to which an epoch is shuffled in one gather; above, each batch is gathered by itself."""


class Source(Protocol):
    """One part of a problem's data, read in batches, any number of times."""

    @property
    def size(self) -> int | None:
        """Number of examples; None where it cannot be known."""
        ...

    def steps(self, batch_size: int) -> int | None:
        """Batches in one pass; None where it cannot be known."""
        ...

    def epoch(self, batch_size: int, seed: int, epoch: int) -> Iterator[Any]:
        """One pass in the order of this seed and epoch, each example once."""
        ...

    def stored(self, batch_size: int) -> Iterator[Any]:
        """One pass in stored order."""
        ...


class Memory:
    """Examples held as one batch of tensors.

    Args:
        batch: A pytree whose tensors share their first dimension.
    """

    def __init__(self, batch: Any) -> None:
        self.batch = batch
        self.size: int = batches.length(batch, "data")
        if not self.size:
            raise DataError("the data is empty: it needs at least one example")
        self.device: torch.device = batches.tensors(batch)[0].device
        self.bytes = sum(leaf.numel() * leaf.element_size() for leaf in batches.tensors(batch))

    def to(self, device: torch.device, dtype: torch.dtype | None = None) -> Memory:
        """The same examples on `device`, floating ones as `dtype` where one is given."""
        return Memory(batches.to(self.batch, device, dtype))

    def steps(self, batch_size: int) -> int:
        """Batches in one pass; the last may be smaller."""
        return -(-self.size // batch_size)

    def epoch(self, batch_size: int, seed: int, epoch: int) -> Iterator[Any]:
        """One pass, reshuffled; a full batch keeps the stored order, which it cannot depend on."""
        if batch_size >= self.size:
            yield self.batch
            return
        order = randomness.permutation(self.size, seed, epoch).to(self.device)
        if self.bytes <= SHUFFLE_LIMIT:
            yield from batches.slices(batches.take(self.batch, order), batch_size)
            return
        for index in torch.split(order, batch_size):
            yield batches.take(self.batch, index)

    def stored(self, batch_size: int) -> Iterator[Any]:
        """One pass in stored order, as views."""
        if batch_size >= self.size:
            yield self.batch
            return
        yield from batches.slices(self.batch, batch_size)

    def head(self, count: int) -> Any:
        """The first `count` examples in stored order."""
        return batches.map_tensors(lambda leaf: leaf[:count], self.batch)


class Loader:
    """A DataLoader; its own batch size, order and collation win.

    Its shuffling is seeded for every epoch, so that a run can be repeated and resumed.
    """

    def __init__(self, loader: DataLoader[Any]) -> None:
        self.loader = loader
        sized = not isinstance(loader.dataset, IterableDataset)
        self.size: int | None = len(cast("Sequence[Any]", loader.dataset)) if sized else None
        if self.size == 0:
            raise DataError("the data is empty: the DataLoader's dataset holds no example")

    def steps(self, batch_size: int) -> int | None:
        """Batches in one pass of the DataLoader; its own batch size counts."""
        del batch_size
        try:
            return len(self.loader)
        except TypeError:
            return None

    def epoch(self, batch_size: int, seed: int, epoch: int) -> Iterator[Any]:
        """One pass as the DataLoader gives it, its randomness at the address of this epoch."""
        del batch_size
        own = cast("torch.Generator | None", self.loader.generator)
        if own is not None:
            own.manual_seed(randomness.address(seed, "order", epoch))
        with randomness.seeded(seed, "order", epoch):
            iterator = iter(self.loader)
        yield from iterator

    def stored(self, batch_size: int) -> Iterator[Any]:
        """One pass; in stored order if the DataLoader does not shuffle."""
        return self.epoch(batch_size, 0, 0)

    @property
    def batch_size(self) -> int | None:
        """The DataLoader's own batch size; None where a batch sampler of the user's decides."""
        return self.loader.batch_size


def as_source(data: Any, what: str) -> Source:
    """`data` as a source.

    Args:
        data: Tensors or arrays in a tuple, list or dict; a Dataset; a DataLoader; or a source.
        what: Name in messages: "train" or "valid".

    Raises:
        DataError: empty, mis-shaped, or nothing of these.
    """
    if isinstance(data, (Memory, Loader)):
        return data
    try:
        if isinstance(data, DataLoader):
            return Loader(cast("DataLoader[Any]", data))
        if isinstance(data, Dataset):
            return _from_dataset(cast("Dataset[Any]", data))
        return Memory(_as_tensors(data, what))
    except DataError as error:
        text = str(error)
        raise DataError(text if text.startswith(what) else f"{what}: {text}") from None


def read_path(path: str | Path, target: str | None = None) -> Any:
    """What `downslope.data` reads from a file: train and valid parts, task, and what it decided."""
    return names.load("downslope.data.paths:load_path")(Path(path), target=target)


def _from_dataset(dataset: Dataset[Any]) -> Source:
    if isinstance(dataset, TensorDataset):
        return Memory(dataset.tensors)
    sized: Any = dataset
    if isinstance(dataset, IterableDataset) or not hasattr(sized, "__len__"):
        return Loader(DataLoader(dataset, batch_size=None if isinstance(dataset, IterableDataset) else 64))
    count = len(sized)
    if not count:
        raise DataError("the dataset holds no example")
    first, again = sized[0], sized[0]
    bytes_each = sum(leaf.numel() * leaf.element_size() for leaf in batches.tensors(default_collate([first])))
    if _same(first, again) and bytes_each * count <= MEMORY_LIMIT:
        return Memory(default_collate([sized[i] for i in range(count)]))
    return Loader(DataLoader(dataset, batch_size=64, shuffle=True))


def _same(a: Any, b: Any) -> bool:
    """Whether an example read twice is the same; if not, the dataset augments and must not be frozen."""
    pairs = zip(batches.leaves(default_collate([a])), batches.leaves(default_collate([b])), strict=True)
    return all(torch.equal(x, y) if isinstance(x, Tensor) else x == y for x, y in pairs)


def _as_tensors(data: Any, what: str) -> Any:
    if isinstance(data, Mapping):
        fields = cast("Mapping[str, Any]", data).items()
        tree: Any = {key: _as_tensors(value, f"{what}[{key!r}]") for key, value in fields}
    elif isinstance(data, (tuple, list)) and any(_is_array(each) for each in cast("Sequence[Any]", data)):
        items = enumerate(cast("Sequence[Any]", data))
        tree = tuple(_as_tensors(value, f"{what}[{index}]") for index, value in items)
    elif isinstance(data, (tuple, list)) and any(
        isinstance(x, (tuple, list, dict)) for x in cast("Any", data)
    ):
        return tuple(_as_tensors(value, what) for value in cast("Sequence[Any]", data))
    else:
        return _tensor(data, what)
    batches.length(tree, what)
    return tree


def _is_array(value: Any) -> bool:
    return (
        isinstance(value, (Tensor, np.ndarray)) or hasattr(value, "__array__") or hasattr(value, "to_numpy")
    )


def _tensor(data: Any, what: str) -> Tensor:
    """One tensor of an array, a data frame or a list of numbers."""
    if isinstance(data, Tensor):
        return data.detach()
    if data is None or isinstance(data, (str, bytes, int, float)):
        raise DataError(
            f"{what}={data!r}: must be a pair of tensors or arrays, a Dataset, a DataLoader or a path"
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
    return torch.as_tensor(np.ascontiguousarray(array))
