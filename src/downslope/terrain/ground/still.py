"""What holds still from one look at a loss to the next: the random numbers, and what a forward pass moves."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from downslope.core import randomness


@contextmanager
def twice() -> Generator[None]:
    """A block whose forward passes can be differentiated twice: fused attention stops at order 1."""
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        yield


class Still:
    """Looks at one function: dropout draws the same masks at every look, running statistics move once.

    Each piece of the data has random numbers of its own. What a forward pass writes into buffers (batch norm
    in training mode, spectral norm) stays as the first look at each piece left it; later looks start from
    where the first one did and put back what they found.

    Args:
        model: Whose buffers; None where there is none to speak of.
        seed: Of the random numbers; the global generators are left alone.
    """

    def __init__(self, model: nn.Module | None, seed: int) -> None:
        self.seed = seed
        self._model = model
        self._seen: set[int] = set()
        self._start: dict[str, Tensor] = {}

    @contextmanager
    def look(self, index: int = 0) -> Generator[None]:
        """A block that evaluates piece `index`."""
        with randomness.seeded(self.seed, "probe", index):
            if self._model is None:
                yield
            elif index in self._seen:
                yield from self._again(self._model)
            else:
                yield from self._first(self._model, index)

    def start(self) -> dict[str, Tensor]:
        """Copies of the buffers that move, as they stood before the first look; by qualified name."""
        return {name: value.clone() for name, value in self._start.items()}

    def _first(self, model: nn.Module, index: int) -> Generator[None]:
        before = {name: each.detach().clone() for name, each in model.named_buffers()}
        yield
        self._seen.add(index)
        for name, each in model.named_buffers():
            if name in before and name not in self._start and not _same(before[name], each):
                self._start[name] = before[name]

    def _again(self, model: nn.Module) -> Generator[None]:
        held = {name: each for name, each in model.named_buffers() if name in self._start}
        found = {name: each.detach().clone() for name, each in held.items()}
        _put(held, self._start)
        try:
            yield
        finally:
            _put({name: each for name, each in model.named_buffers() if name in found}, found)


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one, other)


def _put(into: dict[str, Tensor], values: dict[str, Tensor]) -> None:
    # Through .data: a graph that is kept must not count as out of date.
    for name, each in into.items():
        each.data.copy_(values[name])
