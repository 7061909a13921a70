"""A chain around one link that takes matrices in batches: loops of what stands before it and behind it.

    for every batch of matrices of one shape:
        p, g, state -> state, and a batch that the link has room for; sums of squares     a loop
        each matrix divided by its length                                                 a loop
        the link                                                                          torch's products
        what it gave, p, state -> p, state                                                a loop

The loops are those of `table`, for which the batch is one state more: the first two leave p as it is, the
last begins with the batch in the place of the gradient. Nothing else of the size of the matrices lies in
between.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, cast

import torch
from torch import Tensor

from downslope.core.errors import RecipeError
from downslope.optim.batches import Batched, alike
from downslope.optim.kernel.own import Own
from downslope.optim.kernel.table import KernelStep
from downslope.optim.kernel.trace import Traced, traced
from downslope.optim.looks import are_whole
from downslope.optim.portions import aligned
from downslope.optim.rule import Chain, Rule, Scalars

__all__ = ["Split", "SplitStep", "split_of"]

Column = list[Tensor]


class _Between(NamedTuple):
    """What lies between the two loops."""

    x: Tensor


@dataclass(frozen=True, kw_only=True)
class _Leave(Rule[_Between]):
    """Ends the first loop: keeps what comes to it, and p stays."""

    memory: ClassVar[type[tuple[Tensor, ...]]] = _Between
    keys: ClassVar[tuple[str, ...]] = ("between",)

    def init(self, p: Tensor) -> _Between:
        return _Between(torch.zeros_like(p))

    def update(self, g: Tensor, state: _Between, p: Tensor, k: Scalars) -> tuple[Tensor, _Between]:
        return cast("Tensor", 0.0), _Between(g)


@dataclass(frozen=True, kw_only=True)
class _Divide(_Leave):
    """The loop between: each matrix by its length."""

    def update(self, g: Tensor, state: _Between, p: Tensor, k: Scalars) -> tuple[Tensor, _Between]:
        return cast("Tensor", 0.0), _Between(k.gain * state.x)


@dataclass(frozen=True, kw_only=True)
class _Fetch(_Leave):
    """Begins the last loop, in the place of the gradient."""

    def update(self, g: Tensor, state: _Between, p: Tensor, k: Scalars) -> tuple[Tensor, _Between]:
        return k.scale * state.x, state


@dataclass(frozen=True)
class Split(Own):
    """The loops around link number `at` of an active `chain`."""

    reads_any: ClassVar[bool] = True

    chain: Chain
    at: int
    loops: tuple[Traced, Traced, Traced]
    """Before it, between, and behind it."""

    def stands(self, chain: Chain) -> bool:
        return chain.links[self.at] == self.chain.links[self.at]

    def step(
        self, params: Column, columns: Sequence[Column], *, maximize: bool, apart: bool = False
    ) -> SplitStep:
        return SplitStep(self, params, columns, maximize=maximize)


def split_of(chain: Chain) -> Split | None:
    """The loops around the one link of an active `chain` that looks at whole matrices; None where it has
    none, or two, or takes no batches, or where what stands around it is no list of operators.
    """
    places = [i for i, link in enumerate(chain.links) if link.scope == "matrix"]
    if len(places) != 1 or not isinstance(chain.links[places[0]], Batched):
        return None
    [at] = places
    link = chain.links[at]
    if link.wants_raw or any(i >= at for i in chain.measuring):
        return None
    parts = (*chain.links[:at], _Leave()), (_Divide(),), (_Fetch(), *chain.links[at + 1 :])
    before, between, behind = (traced(Chain(part)) for part in parts)
    if isinstance(before, str) or isinstance(between, str) or isinstance(behind, str):
        return None
    says = f"a pair of loops made of the rules around {type(link).__name__}"
    return Split("", says, chain, at, (before, between, behind))


class SplitStep:
    """Steps the tensors of one bucket.

    Args:
        split: the chain and its loops.
        params: the parameters, contiguous, those of one shape side by side.
        columns: their states by the chain's keys.
        maximize: climb in place of descend.

    Raises:
        RecipeError: numba cannot be used, or the states of a column are not of one kind.
    """

    def __init__(self, split: Split, params: Column, columns: Sequence[Column], *, maximize: bool) -> None:
        self.turned: Sequence[int] = ()
        self.serves = False
        self.at, self.link = split.at, cast("Batched", split.chain.links[split.at])
        self.first = sum(len(link.keys) for link in split.chain.links[: self.at])
        self.looks, self.params, self.columns = _looks(params, columns), params, columns
        self.held = _addresses(params, columns)
        self.batches: list[tuple[slice, list[KernelStep]]] = []
        for piece in alike(params):
            part, own = params[piece], [column[piece] for column in columns]
            room = _laid_out(self.link.rooms(part)[0], part)
            held = [*own[: self.first], room], [room], [room, *own[self.first :]]
            squares = self.first, None, None
            steps = [
                KernelStep(loop, part, each, maximize=maximize, squares=n)
                for loop, each, n in zip(split.loops, held, squares, strict=True)
            ]
            self.batches.append((piece, steps))

    def _read(self, grads: Column, piece: slice) -> Column:
        """The gradients of a batch; copies where they have another dtype, or lie otherwise."""
        return list(map(aligned, grads[piece], self.params[piece]))

    def fits(self, params: Column, columns: Sequence[Column]) -> bool:
        """Whether parameters and states look as they did when this was made."""
        self.params = params
        self.columns = columns
        found = _addresses(params, columns)
        if found != self.held:
            if _looks(params, columns) != self.looks or not all(map(are_whole, (params, *columns))):
                return False
            self.held = found
        return True

    def update(self, params: Column, grads: Column, ks: Sequence[Scalars]) -> None:
        """One step in place; see `Step`."""
        for piece, (before, between, behind) in self.batches:
            part, own = params[piece], [column[piece] for column in self.columns]
            g = self._read(grads, piece)
            scalars = [k.of(piece) for k in ks]
            rooms = self.link.rooms(part)
            room = _laid_out(rooms[0], part)
            _point(before, part, [*own[: self.first], room])
            squares = before.update_and_add(g, [*scalars[: self.at], Scalars()])
            _point(between, part, [room])
            gain = self.link.lengths(squares, room[0].dtype).reciprocal()
            between.update(part, g, [Scalars(gain=gain)])
            flow = self.link.work(rooms, part)
            found = [_lying_as(x, there) for x, there in zip(flow.num, room, strict=True)]
            _point(behind, part, [found, *own[self.first :]])
            behind.update(part, g, [Scalars(scale=flow.scale), *scalars[self.at + 1 :]])

    def measure(self, link: int, grads: Column, ks: Sequence[Scalars]) -> list[Tensor]:
        """For each total that a link before the matrices wants, a float64 tensor with an entry for each."""
        parts = [
            before.measure(link, self._read(grads, piece), [*(k.of(piece) for k in ks[: self.at]), Scalars()])
            for piece, (before, *_) in self.batches
        ]
        return [torch.cat(each) for each in zip(*parts, strict=True)]


def _laid_out(batch: Tensor, params: Column) -> Column:
    """The batch as tensors that lie as the parameters do, which sides of 1 leave open."""
    return [
        each if each.stride() == p.stride() else each.as_strided(p.shape, p.stride())
        for each, p in zip(batch.view(len(params), *params[0].shape).unbind(), params, strict=True)
    ]


def _addresses(params: Column, columns: Sequence[Column]) -> list[int]:
    return [x.data_ptr() for x in itertools.chain(params, *columns)]


def _looks(params: Column, columns: Sequence[Column]) -> list[tuple[Any, ...]]:
    tensors = itertools.chain(params, *columns)
    return [(x.shape, x.dtype, x.device, x.stride()) for x in tensors]


def _point(step: KernelStep, params: Column, columns: Sequence[Column]) -> None:
    """Tell the step where everything lies."""
    if not step.fits(params, columns):
        raise RecipeError(
            "a matrix or its state has changed its look within a step; call step() from one thread"
        )


def _lying_as(x: Tensor, there: Tensor) -> Tensor:
    alike = x.dtype == there.dtype and x.stride() == there.stride()
    return x if alike else torch.empty_like(there).copy_(x)
