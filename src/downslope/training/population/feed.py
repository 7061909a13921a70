"""The batches of a population: for each seed its own order and augmentation, one batch where all agree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.utils import _pytree as pytree  # torch's own

from downslope.core import batches, randomness
from downslope.core.sources import SHUFFLE_LIMIT, Memory
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

    def keep(self, rows: Sequence[int]) -> None:
        """Leave out all members but those in `rows`, from the next batch on."""
        self._seeds = [self._seeds[i] for i in rows]
        self._lay()

    def epoch(self, epoch: int) -> Iterator[Fed]:
        """The batches of one epoch."""
        source, size = self.source, self.batch_size
        if size >= source.size:
            yield self._made(dict.fromkeys(self.kinds, source.batch), epoch, 0)
            return
        kinds = list(self.kinds)
        orders = [randomness.permutation(source.size, seed, epoch).to(source.device) for seed in kinds]
        if self._plain and source.bytes * len(kinds) <= SHUFFLE_LIMIT:
            yield from self._whole(orders)
            return
        cuts = zip(*(torch.split(order, size) for order in orders), strict=True)
        for place, index in enumerate(cuts):
            wanted = {
                k: batches.take(source.batch, i) for k, i in zip(kinds, index, strict=True) if k in self.kinds
            }
            yield self._made(wanted, epoch, place)

    def _whole(self, orders: Sequence[Tensor]) -> Iterator[Fed]:
        """The batches of an epoch that is shuffled at once, for all seeds."""
        kinds, size = list(self.kinds), self.batch_size
        shuffled = batches.take(self.source.batch, torch.cat(list(orders)))
        if len(kinds) == 1:
            for batch in batches.slices(shuffled, size):
                yield Fed(batch, shared=True)
            return
        across = batches.map_tensors(  # examples first, so that they can be cut as those of one run
            lambda leaf: leaf.view(len(kinds), -1, *leaf.shape[1:]).transpose(0, 1), shuffled
        )
        for batch in batches.slices(across, size):
            yield self._spread(_turned(batch), kinds)

    def _made(self, wanted: Mapping[int, Any], epoch: int, place: int) -> Fed:
        """A batch by seed, augmented."""
        each = [self._changed(batch, seed, epoch, place) for seed, batch in wanted.items()]
        if len(each) == 1 or (self._plain and all(one is each[0] for one in each)):
            return Fed(each[0], shared=True)
        return self._spread(stack(each), list(wanted))

    def _spread(self, batch: Any, kinds: Sequence[int]) -> Fed:
        """Batches of these seeds as those of the members."""
        if len(self.kinds) == 1:
            at = kinds.index(self.kinds[0])
            return Fed(batches.map_tensors(lambda leaf: leaf[at], batch), shared=True)
        if list(kinds) == self._seeds:
            return Fed(batch, shared=False)
        index = torch.tensor([kinds.index(seed) for seed in self._seeds], device=self.source.device)
        return Fed(batches.take(batch, index), shared=False)

    @property
    def _plain(self) -> bool:
        return all(each is None for each in self._of.values())

    def _changed(self, batch: Any, seed: int, epoch: int, place: int) -> Any:
        augment = self._of[seed]
        return batch if augment is None else augment(batch, epoch, place)


def _turned(batch: Any) -> Any:
    """The members' dimension before that of the examples."""
    if type(batch) is tuple and all(isinstance(each, Tensor) for each in cast("tuple[Any, ...]", batch)):
        return tuple(leaf.transpose(0, 1) for leaf in cast("tuple[Tensor, ...]", batch))
    return batches.map_tensors(lambda leaf: leaf.transpose(0, 1), batch)


def stack(several: Sequence[Any]) -> Any:
    """Batches of one structure, their tensors stacked."""
    flat = [pytree.tree_flatten(each) for each in several]
    columns = zip(*(leaves for leaves, _ in flat), strict=True)
    made = [torch.stack(list(each)) if isinstance(each[0], Tensor) else each[0] for each in columns]
    return pytree.tree_unflatten(made, flat[0][1])
