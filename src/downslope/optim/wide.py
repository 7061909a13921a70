"""Buckets whose tensors are stepped from copies: half precision in float32, sparse gradients row by row.

    x, s, g = float32 of p, state, g        (of the rows that a sparse gradient names)
    step, s' = chain(g, s, x)
    p, state = rounded(x - step), rounded(s')

Copies are made of pieces of 2**16 elements, so that nothing of the size of the model is kept, unless a rule
looks at a whole matrix.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from downslope.optim.kinds import PLAIN, Manner
from downslope.optim.layout import Bucket
from downslope.optim.looks import has_memory, plain
from downslope.optim.portions import PIECE, Along, flat
from downslope.optim.rounding import Draws, rounded, widened
from downslope.optim.rows import coalesced, index_of, is_sparse, put, taken
from downslope.optim.scale import ScaleByLr
from downslope.optim.seats import reconciled
from downslope.optim.totals import doubled, total

__all__ = ["WideBucket"]


class _Part(NamedTuple):
    """Some elements of a parameter, of its states and of its gradient."""

    whole: list[Tensor]
    """The parameter and its states, in the order of the chain; written at `at`."""
    at: Any
    offset: int
    """Of its first element, for the random bits."""
    g: Tensor
    values: list[Tensor]
    """What stands at `at`, in float32 at least."""


@dataclass
class WideBucket(Bucket):
    """A bucket that needs more than its chain in place.

    Args:
        manner: what its tensors have in common.
    """

    manner: Manner = PLAIN

    def gradients(self) -> list[Tensor] | None:
        """The gradients, sparse ones with every index once, or None if one came or went, or changed kind."""
        columns = self._columns()
        if not self._counts_stand() or not self._as_laid_out(columns):
            return None
        self._take(columns)
        if not has_memory([p.grad for p in self.owners if p.grad is not None]):
            return None  # before a sparse one is added up
        grads: list[Tensor] = []
        for p in self.owners:
            g = p.grad
            if g is None or is_sparse(g) != self.manner.sparse:
                return None
            if (g.shape, g.dtype, g.device) != (p.shape, p.dtype, p.device):
                return None
            ready = coalesced(g) if self.manner.sparse and not self._adds else g
            grads.append(ready if self.manner.sparse else plain(g))
        return grads if self._has_memory(grads) else None

    @property
    def _adds(self) -> bool:
        """Whether the step is a multiple of a sparse gradient, which torch adds as it stands."""
        links = self.chain.links
        plain = self.manner == Manner(sparse=True) and not self.chain.has_members
        return plain and len(links) == 1 and type(links[0]) is ScaleByLr

    def measure(self, i: int, grads: list[Tensor], *, wide: bool = False) -> list[Tensor]:
        """As `Bucket.measure`, in float32 at least, and of the rows that a sparse gradient names."""
        peak = self.chain.links[i].peak
        found: list[list[Tensor]] = []
        for n, g in enumerate(grads):
            sums: list[list[Tensor]] = []
            for part in self._parts(n, g):
                x, *states = part.values
                sign = -part.g if self.maximize else part.g
                cut = x, sign, self._split(states)
                x, sign, before = doubled(*cut) if wide else cut
                own = self.chain.measure(i, sign, before, x, self._scalars(n))
                sums.append([total(each, high) for each, high in zip(own, peak, strict=True)])
            columns = zip(*sums, strict=True)
            found.append([total(torch.stack(each), high) for each, high in zip(columns, peak, strict=True)])
        return [torch.stack(column) for column in zip(*found, strict=True)]

    def step(self, grads: list[Tensor]) -> None:
        """The step that has begun."""
        if self._adds:
            for p, g in zip(self.params, grads, strict=True):
                p.add_(g, alpha=float(self.ks[0].lr) if self.maximize else -float(self.ks[0].lr))
            self._end()
            return
        keys = None if self.streams is None else self.streams.following()
        for n, g in enumerate(grads):
            draws = None if keys is None else Draws(int(keys[n]))
            for part in self._parts(n, g):
                self._step_part(n, part, draws)
        self._end()

    def _step_part(self, n: int, part: _Part, draws: Draws | None) -> None:
        x, *states = part.values
        g = -part.g if self.maximize else part.g
        step, after = self.chain.update(g, self._split(states), x, self._scalars(n))
        new = [x - step, *itertools.chain.from_iterable(after)]
        for column, (tensor, old, value) in enumerate(zip(part.whole, part.values, new, strict=True)):
            if value is old:
                continue
            like = tensor if part.at is ... else value
            by_chance = None if draws is None else draws.of(column, like, part.offset)
            put(tensor, part.at, rounded(value, tensor.dtype, by_chance))
        if self.manner.rounding == "master":
            put(self.params[n], part.at, new[0].to(self.params[n].dtype))

    def _split(self, states: Sequence[Tensor]) -> list[tuple[Tensor, ...]]:
        rest, links = iter(states), self.chain.links
        counts = [len(link.keys_of(self.params[0])) for link in links]
        return [link.remember(itertools.islice(rest, n)) for link, n in zip(links, counts, strict=True)]

    def _parts(self, n: int, g: Tensor) -> Iterator[_Part]:
        p, state = self.params[n], self.states[n]
        first = state["master"] if self.manner.rounding == "master" else p
        whole = [first, *(state[key] for key in self.keys)]
        if self.manner.sparse:
            values = g.values()
            values = torch.view_as_real(values.resolve_conj()) if values.is_complex() else values
            yield self._part(whole, index_of(g), 0, values, p)
            return
        row = flat(whole) if self.chain.scope != "matrix" else None
        if row is None:
            yield self._part(whole, ..., 0, g, p)
            return
        along = Along(g, whole[0].stride())
        for start in range(0, g.numel(), PIECE):
            end = min(start + PIECE, g.numel())
            yield self._part(row, slice(start, end), start, along.of(start, end), p)

    def _part(self, whole: list[Tensor], at: Any, offset: int, g: Tensor, p: Tensor) -> _Part:
        values = [widened(taken(tensor, at)) for tensor in whole]
        if self.manner.rounding == "master":
            values[0] = reconciled(values[0], taken(p, at))
        return _Part(whole, at, offset, widened(g), values)
