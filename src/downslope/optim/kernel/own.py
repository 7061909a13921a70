"""Kernels that a rule brings along, where a loop made of its operators cannot be its step."""

from __future__ import annotations

import functools
import importlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from torch import Tensor

from downslope.optim.portions import aligned
from downslope.optim.rule import Chain, Scalars

__all__ = ["Apart", "Own", "Step", "own_of"]

_AT_ONCE = 1 << 18


class Step(Protocol):
    """What steps the tensors of one bucket by a kernel."""

    turned: Sequence[int]
    """Places of gradients that lie otherwise than their parameters; set before each call."""

    serves: bool
    """Whether it takes what is new in the parameters of half precision of which it steps copies, and writes
    them."""

    def fits(self, params: list[Tensor], columns: Sequence[list[Tensor]]) -> bool:
        """Whether parameters and states look as they did when this was made, and none was freed."""
        ...

    def update(self, params: list[Tensor], grads: list[Tensor], ks: Sequence[Scalars]) -> None:
        """One step in place."""
        ...

    def measure(self, link: int, grads: list[Tensor], ks: Sequence[Scalars]) -> list[Tensor]:
        """For each total that a link wants, a float64 tensor with an entry for each parameter."""
        ...


class Apart:
    """Steps some tensors at a time by kernels that read gradients as they read parameters.

    Memory: copies of gradients of 2**18 elements, or of one tensor.

    Args:
        make: from parameters and their states to a step.
        params: the parameters.
        columns: their states.
    """

    def __init__(
        self, make: Callable[..., Step], params: list[Tensor], columns: Sequence[list[Tensor]]
    ) -> None:
        self.turned: Sequence[int] = ()
        self.serves = False
        ends = [n for n in _ends(params) if n]
        self.parts = [slice(start, end) for start, end in itertools.pairwise([0, *ends])]
        self.steps = [make(params[at], [column[at] for column in columns]) for at in self.parts]

    def fits(self, params: list[Tensor], columns: Sequence[list[Tensor]]) -> bool:
        """Whether each of the kernels can still be used."""
        pairs = zip(self.steps, self.parts, strict=True)
        return all(step.fits(params[at], [column[at] for column in columns]) for step, at in pairs)

    def update(self, params: list[Tensor], grads: list[Tensor], ks: Sequence[Scalars]) -> None:
        """One step in place."""
        for step, at in zip(self.steps, self.parts, strict=True):
            step.update(params[at], list(map(aligned, grads[at], params[at])), ks)

    def measure(self, link: int, grads: list[Tensor], ks: Sequence[Scalars]) -> list[Tensor]:
        """Nothing: such kernels have their sums to themselves."""
        return []


def _ends(params: list[Tensor]) -> Iterator[int]:
    size = 0
    for n, p in enumerate(params):
        if size and size + p.numel() > _AT_ONCE:
            yield n
            size = 0
        size += p.numel()
    yield len(params)


@dataclass(frozen=True)
class Own:
    """A rule's own step: ``place`` is ``module:attribute`` of (params, columns, maximize) -> `Step`."""

    reads_any: ClassVar[bool] = False
    """Whether it takes gradients of any dtype and layout."""

    place: str
    says: str
    """What it is, in the plan."""

    def obstacle(self, p: Tensor) -> str | None:
        """Why it cannot step `p`, beyond what no kernel can."""
        return None if p.is_contiguous() else "its loops read rows, and the weights are not contiguous"

    def stands(self, chain: Chain) -> bool:
        """Whether what was made for an active chain serves `chain`, in which no more than numbers differ."""
        return True

    def step(
        self, params: list[Tensor], columns: Sequence[list[Tensor]], *, maximize: bool, apart: bool = False
    ) -> Step:
        """The step, for tensors of one dtype; `apart` where gradients are to be copied first."""
        module, _, name = self.place.partition(":")
        made: Any = getattr(importlib.import_module(module), name)
        make = functools.partial(made, maximize=maximize)
        return Apart(make, params, columns) if apart else make(params, columns)


def own_of(chain: Chain) -> Own | None:
    """The kernels that an active `chain` brings along: those of its only link."""
    return chain.links[0].kernel if len(chain.links) == 1 else None
