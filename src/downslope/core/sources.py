"""Where batches come from: tensors held in memory, a Dataset read in pieces, or anybody's DataLoader."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from downslope.core import batches, names, randomness
from downslope.core.arrays import as_tensors
from downslope.core.errors import DataError, DownslopeError
from downslope.core.examples import cause, collated, counted, example, plain_batch
from downslope.core.workers import Readers

MEMORY_LIMIT = 2 * 2**30
"""Bytes up to which a Dataset is collated once and kept; larger ones stream through a DataLoader."""

MOST_STREAMED = 200
"""Batches that stand for a stream whose length is not known, in every evaluation."""

RE_READ = 8
"""Examples of a Dataset that are read three times, to see whether it augments."""

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


class Origin(NamedTuple):
    """Where the examples of a part stand in the file that they were read from."""

    file: str
    unit: Literal["line", "row"]
    """Lines of a text count from 1, rows of an array from 0."""
    at: npt.NDArray[np.int64]
    """Line or row of each example."""
    columns: Sequence[str] = ()
    """Names of the numbers of an example, where they have any."""
    inputs: str = ""
    """Name of the array."""
    target: str = ""
    """Name of the column or array."""
    spelt: Mapping[tuple[int, str], str] | None = None
    """What stands at a line and a column of numbers instead of one."""


class Memory:
    """Examples held as one batch of tensors.

    Args:
        batch: A pytree whose tensors share their first dimension.
        origin: The file that they were read from, where it was one.
        reading: How a file becomes such examples, in plain values, so that another one can be read alike.
    """

    def __init__(
        self, batch: Any, origin: Origin | None = None, reading: Mapping[str, Any] | None = None
    ) -> None:
        batch = batches.signed(batch)
        self.batch = batch
        self.origin = origin
        self.reading = reading
        self.size: int = batches.length(batch, "data")
        if not self.size:
            raise DataError("the data is empty: it needs at least one example")
        self.device: torch.device = batches.tensors(batch)[0].device
        self.bytes = batches.size_of(batch)

    def to(self, device: torch.device, dtype: torch.dtype | None = None) -> Memory:
        """The same examples on `device`, floating ones as `dtype` where one is given."""
        return Memory(batches.to(self.batch, device, dtype), self.origin, self.reading)

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


class Away:
    """Examples in memory that the device does not hold: gathered here, moved batch by batch.

    Args:
        memory: The examples; order and batches are its own.
    """

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self.size: int = memory.size
        self.reading = memory.reading

    def steps(self, batch_size: int) -> int:
        """Batches in one pass; the last may be smaller."""
        return self.memory.steps(batch_size)

    def epoch(self, batch_size: int, seed: int, epoch: int) -> Iterator[Any]:
        """One pass, reshuffled."""
        order = randomness.permutation(self.size, seed, epoch)
        for index in torch.split(order, batch_size):
            yield batches.take(self.memory.batch, index)

    def stored(self, batch_size: int) -> Iterator[Any]:
        """One pass in stored order, as views."""
        return self.memory.stored(batch_size)


class Loader:
    """A DataLoader; its own batch size, order and collation win.

    Its randomness (order, and augmentation in this process) is put at the address of every batch, so that a
    run can be repeated and resumed.
    """

    def __init__(self, loader: DataLoader[Any]) -> None:
        self.loader = loader
        self.told = False
        """Whether it was said that its own batch size wins over a recipe's."""
        self.size: int | None = _count(loader.dataset)
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
        yield from _addressed(self.loader, seed, epoch)

    def stored(self, batch_size: int) -> Iterator[Any]:
        """One pass; in stored order if the DataLoader does not shuffle."""
        sampler: Any = self.loader.sampler  # one that leaves examples out at times says so
        whole: Any = getattr(sampler, "whole", contextlib.nullcontext)
        with whole():
            yield from self.epoch(batch_size, 0, 0)

    @property
    def batch_size(self) -> int | None:
        """The DataLoader's own batch size; None where a batch sampler of the user's decides."""
        return self.loader.batch_size


class Stream:
    """A Dataset that is read anew in every pass, because it is large, augments, or has no length.

    What is read does not depend on where: examples may come from other processes (`downslope.core.workers`)
    where reading takes long and there are cores for it.

    Args:
        dataset: Gives examples.
        reading: How a file becomes such examples, in plain values.
    """

    def __init__(self, dataset: Dataset[Any], reading: Mapping[str, Any] | None = None) -> None:
        self.dataset = dataset
        self.reading = reading
        self.size: int | None = _count(dataset)
        self._readers = Readers(dataset)

    def steps(self, batch_size: int) -> int | None:
        """Batches in one pass; the last may be smaller."""
        return None if self.size is None else -(-self.size // batch_size)

    def epoch(self, batch_size: int, seed: int, epoch: int) -> Iterator[Any]:
        """One pass, reshuffled where the dataset has a length; augmentation at the address of the batch."""
        if self.size is None:
            yield from self.stored(batch_size)
            return
        order = cast("list[int]", randomness.permutation(self.size, seed, epoch).tolist())
        yield from self._readers.batches(order, batch_size, seed, epoch)

    def stored(self, batch_size: int) -> Iterator[Any]:
        """One pass in stored order."""
        if self.size is None:
            yield from _addressed(counted(self.dataset, batch_size), 0, 0)
            return
        yield from self._readers.batches(range(self.size), batch_size, 0, 0)


def _addressed(loader: DataLoader[Any], seed: int, epoch: int) -> Iterator[Any]:
    """One pass; every draw on the way, of the order and in the dataset, has the address of its batch."""
    for owner in cast("list[Any]", [loader, loader.sampler, loader.batch_sampler]):
        own: Any = getattr(owner, "generator", None)
        if isinstance(own, torch.Generator):
            own.manual_seed(randomness.address(seed, "order", epoch))
        if callable(place := getattr(owner, "set_epoch", None)):  # samplers whose order hangs on the epoch
            place(epoch)
    with randomness.seeded(seed, "order", epoch):
        iterator = iter(loader)
    for index in itertools.count():
        with randomness.seeded(seed, "augment", epoch, index):
            try:
                batch = next(iterator)
            except StopIteration:
                return
            except DownslopeError:
                raise
            except Exception as error:
                raise DataError(f"batch {index} of the DataLoader cannot be read: {cause(error)}") from error
        yield plain_batch(batch)


def _count(dataset: Any) -> int | None:
    try:
        return None if isinstance(dataset, IterableDataset) else len(dataset)
    except TypeError:
        return None


def as_source(data: Any, what: str) -> Source:
    """`data` as a source.

    Args:
        data: Tensors or arrays in a tuple, list or dict; a Dataset, or anything else with a length and
            examples by index; a list of examples, each a tuple or dict; a DataLoader; or a source.
        what: Name in messages: "train" or "valid".

    Raises:
        DataError: empty, mis-shaped, or nothing of these.
    """
    if _is_source(data):
        return cast("Source", data)
    try:
        if isinstance(data, DataLoader):
            return Loader(cast("DataLoader[Any]", data))
        if isinstance(data, Dataset) or _is_indexed(data) or _is_listed(data):
            return _from_dataset(cast("Dataset[Any]", data))
        return Memory(as_tensors(data, what))
    except DataError as error:
        text = str(error)
        raise DataError(text if text.startswith(what) else f"{what}: {text}") from None


def _is_indexed(data: Any) -> bool:
    """Whether `data` has examples by index without being a torch Dataset, as those of other libraries."""
    plain = isinstance(data, (Mapping, tuple, list, str, bytes, Tensor))
    arrays = any(hasattr(data, name) for name in ("__array__", "to_numpy", "shape"))
    return not plain and not arrays and hasattr(data, "__getitem__") and hasattr(data, "__len__")


def _is_listed(data: Any) -> bool:
    """Whether `data` is a list of examples; two are taken for inputs and target."""
    found = cast("list[Any]", data) if isinstance(data, list) else []
    if len(found) < 3 or not isinstance(found[0], (tuple, dict)):
        return False
    kind, size = type(cast("Any", found[0])), len(cast("Any", found[0]))
    return all(type(each) is kind and len(each) == size for each in found)


def _is_source(data: Any) -> bool:
    """Whether `data` brings its own batches, as `Source` says."""
    return all(callable(getattr(data, name, None)) for name in ("steps", "epoch", "stored"))


def read_path(path: str | Path, target: str | None = None, valid: float | str | Path = 0.2) -> Any:
    """What `downslope.data` reads from a file: train and valid parts, task, and what it decided.

    The parts come as sources that know where in the file their examples stand. `valid` is the share held
    out, or a second file, which is then read as the first was. The name of a standard set stands for it
    where there is no such file.
    """
    if isinstance(path, str) and path in names.TABLE["data"] and not Path(path).exists():
        loaded = _standard(path, target, valid)
    else:
        loaded = names.load("downslope.data.paths:load_path")(Path(path), target=target, valid=valid)
    parts = (loaded.train, loaded.valid)
    reading = {**loaded.reading, "classes": list(loaded.classes)}
    train, held = (
        part if part is None or _is_source(part) else Memory(part, origin, _with_example(reading, part))
        for part, origin in zip(parts, loaded.origins, strict=True)
    )
    return loaded._replace(train=train, valid=held)


def _standard(name: str, target: str | None, valid: float | str | Path) -> Any:
    """A standard set, whole where nothing is to be held out.

    Raises:
        DataError: a target, or a file of validation examples; it has its own.
    """
    if target is not None:
        raise DataError(f"target {target!r} goes with a file; the set {name} has its own")
    if isinstance(valid, (str, Path)):
        raise DataError(
            f"valid={str(valid)!r} beside the set {name}: no file is read as a standard set; give its tensors"
        )
    return names.resolve("data", name)(**({} if valid else {"valid": 0.0}))


def _with_example(reading: Mapping[str, Any], pair: tuple[Tensor, Tensor]) -> Mapping[str, Any]:
    """`reading` with the shape and type of an example, by which a model can be built without the data."""
    inputs, target = pair
    kinds = [str(each.dtype).removeprefix("torch.") for each in pair]
    return {**reading, "example": [list(inputs.shape[1:]), kinds[0], list(target.shape[1:]), kinds[1]]}


def _from_dataset(dataset: Dataset[Any]) -> Source:
    if isinstance(dataset, TensorDataset):
        return Memory(dataset.tensors)
    count = _count(dataset)
    if count is None:
        return Stream(dataset)
    if not count:
        raise DataError("the dataset holds no example")
    with randomness.seeded(0, "augment"):
        read = [[example(dataset, i) for i in range(min(count, RE_READ))] for _ in range(3)]
        first, *again = [collated(examples) for examples in read]
        held = batches.size_of(first)
        if held * count > MEMORY_LIMIT * len(read[0]) or not all(_same(first, other) for other in again):
            return Stream(dataset)
        return Memory(collated([example(dataset, i) for i in range(count)]))


def _same(a: Any, b: Any) -> bool:
    """Whether examples read twice are the same; if not, the dataset augments and must not be frozen."""
    pairs = zip(batches.leaves(a), batches.leaves(b), strict=True)
    return all(_equal(x, y) if isinstance(x, Tensor) else x == y for x, y in pairs)


def _equal(x: Tensor, y: Tensor) -> bool:
    return x.shape == y.shape and bool(((x == y) | ((x != x) & (y != y))).all())
