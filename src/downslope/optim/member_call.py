"""Members of a population stepped together: slices of their columns, and one call for members alike."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from downslope.optim.layout import Bucket
from downslope.optim.native import Native
from downslope.optim.plan import Size

__all__ = ["Call", "Slice", "joined", "size_in"]

_WHOLE = 64
"""A tensor of a multiple of so many elements leaves no rest behind a kernel's vector loop. The rest is
rounded by other code, so that joining it with what follows would change bits."""


@dataclass
class Slice:
    """Columns that are stepped alike."""

    columns: slice
    parts: list[slice]
    """What is one tensor for a kernel."""
    own: list[dict[str, Any]]
    """Of each member, the settings that differ here from its own."""
    size: Size
    """Of the group that one member has here."""

    def cut(self, whole: Tensor) -> list[tuple[Tensor, ...]]:
        """Views of `whole`, shape (M, P): for every part, a row for each member."""
        return [whole[:, part].unbind() for part in self.parts]


@dataclass
class Call:
    """Members that one call steps, in one slice."""

    place: int
    members: list[int]
    way: Native | Bucket
    """Torch's kernel, or the rules in place."""
    params: list[Tensor]
    columns: list[list[Tensor]]
    steps: list[Tensor]
    first: bool
    """Whether this is the first step of the state."""
    grads: list[Tensor] = field(default_factory=list["Tensor"])
    tallies: list[dict[str, float]] = field(default_factory=list["dict[str, float]"])
    """Of each member, what its rules remember here."""

    def run(self) -> None:
        """One step."""
        if isinstance(self.way, Bucket):
            self.way.begin()
            self.way.step(self.grads)
            for held in self.tallies:
                held.update(self.way.tally)
        else:
            self.way.run(self.params, self.grads, self.columns, self.steps, self.first)
        self.first = False

    def at(self, lr: float) -> None:
        """Take `lr` from here on."""
        way = self.way
        if not isinstance(way, Bucket):
            way.scalars["lr"] = lr
        elif way.chain.fields()["lr"] != lr:
            way.chain = way.chain.replace(lr=lr)


def joined(columns: slice, sizes: Sequence[int] | None) -> list[slice]:
    """Parameters of a slice, joined with what follows them where that changes no bit."""
    if sizes is None:
        return [columns]
    ends = list(itertools.accumulate(sizes))
    inside = [end for end in ends if columns.start < end <= columns.stop]
    parts: list[slice] = []
    start = columns.start
    for end in inside:
        if end == columns.stop or (end - start) % _WHOLE:
            parts.append(slice(start, end))
            start = end
    return parts


def size_in(columns: slice, sizes: Sequence[int] | None) -> Size:
    """Of one member's parameters in a slice: its backend is that of its own optimizer."""
    ends = itertools.accumulate(sizes or [])
    inside = sum(columns.start < end <= columns.stop for end in ends)
    return Size(columns.stop - columns.start, max(inside, 1))
