"""The batches of a population: for each seed its own order and augmentation, one batch where all agree."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree  # torch's own

from downslope.core import batches, randomness
from downslope.core.sources import Memory
from downslope.training.augmenting import Augmenter


class Fed(NamedTuple):
    """The batches of one step."""

    batch: Any
    """One for all members, or stacked: leaves of shape (M, B, ...)."""
    shared: bool
    """Whether it is one for all."""

    def of(self, member: int) -> Any:
        """The batch of one member."""
        return self.batch if self.shared else batches.map_tensors(lambda leaf: leaf[member], self.batch)


class Feed:
    """Batches by seed, as ``Memory.epoch`` and `Augmenter` give them to a run alone.

    Args:
        source: Training data, one for all members.
        batch_size: Examples a step.
        seeds: Of the members, in order.
        augmenters: Of the members; of one seed they do the same.
    """

    def __init__(
        self, source: Memory, batch_size: int, seeds: Sequence[int], augmenters: Sequence[Augmenter | None]
    ) -> None:
        self.source, self.batch_size = source, batch_size
        self._of = dict(zip(seeds, augmenters, strict=True))
        self._seeds = list(seeds)
        self._lay()

    def _lay(self) -> None:
        self.kinds = list(dict.fromkeys(self._seeds))
        places = [self.kinds.index(seed) for seed in self._seeds]
        straight = places == list(range(len(self.kinds)))
        self._index = None if straight else torch.tensor(places, device=self.source.device)

    def keep(self, rows: Sequence[int]) -> None:
        """Leave out all members but those in `rows`, from the next batch on."""
        self._seeds = [self._seeds[i] for i in rows]
        self._lay()

    def epoch(self, epoch: int) -> Iterator[Fed]:
        """The batches of one epoch."""
        size, each = self.source.size, self.batch_size
        orders: dict[int, Tensor] = {}
        if each < size:
            orders = {
                seed: randomness.permutation(size, seed, epoch).to(self.source.device) for seed in self.kinds
            }
        for place in range(self.source.steps(each)):
            index = [orders[seed][place * each : (place + 1) * each] for seed in self.kinds] if orders else []
            yield self._made(index, epoch, place)

    def _made(self, index: Sequence[Tensor], epoch: int, place: int) -> Fed:
        whole = self.source.batch
        if len(self.kinds) == 1 or (not index and self._plain):
            batch = batches.take(whole, index[0]) if index else whole
            augment = self._of[self.kinds[0]]
            return Fed(batch if augment is None else augment(batch, epoch, place), shared=True)
        if self._plain:
            count = len(index[0])
            taken = batches.take(whole, torch.cat(list(index)))
            stacked = batches.map_tensors(lambda leaf: leaf.reshape(-1, count, *leaf.shape[1:]), taken)
        else:
            each = [batches.take(whole, order) for order in index] or [whole] * len(self.kinds)
            pairs = zip(each, self.kinds, strict=True)
            stacked = stack([self._changed(batch, seed, epoch, place) for batch, seed in pairs])
        at = self._index
        return Fed(stacked if at is None else batches.take(stacked, at), shared=False)

    @property
    def _plain(self) -> bool:
        return all(each is None for each in self._of.values())

    def _changed(self, batch: Any, seed: int, epoch: int, place: int) -> Any:
        augment = self._of[seed]
        return batch if augment is None else augment(batch, epoch, place)


def stack(several: Sequence[Any]) -> Any:
    """Batches of one structure, their tensors stacked."""
    flat = [pytree.tree_flatten(each) for each in several]
    columns = zip(*(leaves for leaves, _ in flat), strict=True)
    made = [torch.stack(list(each)) if isinstance(each[0], Tensor) else each[0] for each in columns]
    return pytree.tree_unflatten(made, flat[0][1])
