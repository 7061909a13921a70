"""The data of a ground in parts: how much each weighs, and how many examples one of them may have."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Generator, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from downslope.core import batches
from downslope.core.adapted import Adapted
from downslope.core.class_targets import IGNORED
from downslope.core.counted import Counted, counts
from downslope.core.errors import DataError
from downslope.core.loss import Loss, Objective
from downslope.core.memory import out_of_memory
from downslope.core.sources import MOST_STREAMED, Source

GRAPH = 2**30
"""Bytes that the graph of one part may take unless told otherwise."""

_TWICE = 3
"""Graph of a gradient with its own graph, over that of the loss: measured 2.4 to 2.9 on small networks."""

_TRIED = 64
"""Examples on which it is seen how parts add up."""

_CLOSE = 1e-4
"""Share by which a sum over parts may miss the whole: float32 rounds below it."""


class Piece(NamedTuple):
    """A part of the data, on the model's device and in its dtype."""

    batch: Any
    weight: float
    """Its share of what the loss is a mean over; those of a ground sum to 1. Of a sum it is 1."""


class Share(NamedTuple):
    """A piece, or a part of one, as it is looked at."""

    batch: Any
    weight: float
    penalty: float
    """What penalties are multiplied by in it, so that they count once: 1 where weights sum to 1."""


def weighed(penalty: float, loss: Loss) -> Tensor:
    """The value of a part whose penalties count for so much."""
    return loss.value if loss.penalty is None or penalty == 1 else loss.risk + penalty * loss.penalty


class Weighing:
    """How the objective of a whole comes about from its parts.

    Args:
        objective: Of the ground.
        model: Its model.

    Attributes:
        summed: Whether it is the sum over the parts.
        coupled: Whether no weights put it together, so that a mean over parts is another function.
    """

    def __init__(self, objective: Objective, model: nn.Module) -> None:
        self._objective, self._model = objective, model
        self._counted: Counted | None = counts(objective.function) or Counted(IGNORED, None)
        self.summed = self.coupled = False

    def mass(self, batch: Any) -> float:
        """What counts in `batch`, in proportion."""
        size = batches.length(batch)
        return float(size) if self._counted is None else self._counted.count(self._target(batch), size)

    def choose(self, value: Callable[[Any], float], batch: Any) -> None:
        """See which weights put the objective of some examples together.

        Args:
            value: The risk of a batch.
            batch: Of two examples at least, or nothing is seen.
        """
        size = min(batches.length(batch), _TRIED)
        if size < 2:
            return
        first = max(1, size // 3)
        whole, one, other = (_between(batch, *ends) for ends in ((0, size), (0, first), (first, size)))
        try:
            wanted, a, b = value(whole), value(one), value(other)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            self.choose(value, one)
            return
        if not math.isfinite(wanted):  # nothing counts, or nothing is to be seen
            return
        scale = max(abs(each) for each in (wanted, a, b) if math.isfinite(each))
        guesses = [self._counted, Counted(IGNORED, None, shifted=True), None]
        for guess in guesses if self._objective.function is None else guesses[::2]:
            self._counted = guess
            mine, its = self.mass(one), self.mass(other)
            found = sum(w * v for w, v in ((mine, a), (its, b)) if w)  # 0 / 0 where nothing counts
            if mine + its and abs(found / (mine + its) - wanted) <= _CLOSE * scale:
                return
        self._counted = guesses[0]
        self.summed = abs(a + b - wanted) <= _CLOSE * scale
        self.coupled = not self.summed

    def _target(self, batch: Any) -> Any:
        target = self._objective.split(batch)[2]
        return self._model.training_target(target) if isinstance(self._model, Adapted) else target


def cut(piece: Piece, size: int, penalty: float, weighing: Weighing) -> Iterator[Share]:
    """`piece` in parts of at most `size` examples, which weigh as much together."""
    some = list(batches.slices(piece.batch, size))
    if weighing.summed:
        yield from (Share(each, piece.weight, penalty / len(some)) for each in some)
        return
    masses = [weighing.mass(each) for each in some]
    total = sum(masses)
    if total:
        yield from (
            Share(each, piece.weight * mass / total, penalty) for each, mass in zip(some, masses, strict=True)
        )


class Streamed:
    """A part of a problem's data as pieces, read anew at each evaluation.

    One pass at the start sees how much each piece weighs; nothing of the data is kept.

    Args:
        source: In memory, a dataset, a DataLoader or a stream.
        rows: Examples a piece; a DataLoader's own batch size wins.
        device: Of the pieces.
        dtype: Of their floating tensors.
        weighing: How they add up.

    Attributes:
        examples: How many there are.
        largest: Of a piece.
        count: Of pieces.
        penalty: What penalties are multiplied by in each piece.
        cut_short: Whether the data tells no length and only its first batches stand for it.

    Raises:
        DataError: there is no batch.
    """

    def __init__(
        self, source: Source, rows: int, device: torch.device, dtype: torch.dtype, weighing: Weighing
    ) -> None:
        self._source, self._rows, self._device, self._dtype = source, rows, device, dtype
        self.weighing = weighing
        self._most = MOST_STREAMED if source.steps(rows) is None else None
        self.examples = self.largest = self.count = 0
        self._total = 0.0
        for batch in self._stored():
            size = batches.length(batch)
            self.examples, self.largest = self.examples + size, max(self.largest, size)
            self._total += weighing.mass(batch)
            self.count += 1
        if not self.count:
            raise DataError(
                "the data gave no batch: it is empty, or it was read already: __iter__ must begin anew "
                "each time"
            )
        self.penalty = 1 / self.count if weighing.summed else 1.0
        self.cut_short = self.count == self._most

    def __iter__(self) -> Iterator[Piece]:
        for batch in self._stored():
            moved = batches.to(batch, self._device, self._dtype)
            if self.weighing.summed:
                yield Piece(moved, 1.0)
            elif self._total:
                yield Piece(moved, self.weighing.mass(batch) / self._total)

    def _stored(self) -> Iterator[Any]:
        return itertools.islice(self._source.stored(self._rows), self._most)


def affordable(value: Callable[[Any], Tensor], batch: Any, memory: int = GRAPH) -> int | None:
    """Examples whose gradient's graph takes at most `memory` bytes; None where that cannot be told.

    Args:
        value: The loss of a batch.
        batch: Eight examples or more; what is kept for four and for eight tells what each adds.
        memory: In bytes.
    """
    if batches.length(batch) < 8:
        return None
    four, eight = (_kept(value, _between(batch, 0, n)) for n in (4, 8))
    each = (eight - four) / 4
    return None if each <= 0 else max(1, int(memory / (_TWICE * each)))


@contextlib.contextmanager
def held() -> Generator[dict[int, int]]:
    """Bytes of what graphs formed in this block keep, by address."""
    found: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield found


def _kept(value: Callable[[Any], Tensor], batch: Any) -> int:
    """Bytes that the graph of a forward pass keeps."""
    with torch.enable_grad(), held() as found:
        loss = value(batch)  # a name, so that its graph lives until all is counted
        return sum(found.values()) if loss.dim() == 0 else 0


def _between(batch: Any, first: int, last: int) -> Any:
    return batches.map_tensors(lambda leaf: leaf[first:last], batch)
