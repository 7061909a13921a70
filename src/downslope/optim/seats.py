"""What is stepped in the place of a parameter: the real and imaginary parts of a complex one, or the float32
copy of one of half precision.

A seat has the tensor that the rules see, its state, and its gradient; backends know of nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any, Protocol

import torch
from torch import Tensor

from downslope.optim.portions import PIECE, flat

__all__ = ["Master", "Pairs", "Seat", "reconciled"]

Table = MutableMapping[Tensor, Any]


class Seat(Protocol):
    """One parameter as the rules see it."""

    p: Tensor
    state: MutableMapping[str, Any]

    def gradient(self) -> Tensor | None:
        """The gradient of `p`, or None where there is none, or another layout is needed."""
        ...

    def begin(self) -> None:
        """Sees to it that `p` is what its parameter has become since the last step."""
        ...

    def done(self) -> None:
        """Gives the parameter what its seat has become."""
        ...


class Pairs:
    """A complex parameter as pairs of reals, which share its memory; its states are complex in the table.

    Squares and maxima are taken of real and imaginary part by themselves, as torch does. So an element-wise
    rule treats a complex number as two parameters.
    """

    def __init__(self, owner: Tensor, table: Table) -> None:
        self.owner = owner
        self.p = torch.view_as_real(owner.detach())
        self.state: MutableMapping[str, Any] = _PairState(owner, table, self.p.shape)

    def gradient(self) -> Tensor | None:
        """The pairs of the gradient."""
        g = self.owner.grad
        if g is None or (g.layout, g.dtype) != (torch.strided, self.owner.dtype):
            return None
        if self.owner.data_ptr() != self.p.data_ptr():
            return None
        return torch.view_as_real(g.resolve_conj().resolve_neg())

    def begin(self) -> None:
        """Nothing: the memory is the parameter's own."""

    def done(self) -> None:
        """Nothing: the memory is the parameter's own."""


class _PairState(MutableMapping[str, Any]):
    """The state of a complex parameter, seen as pairs of reals."""

    def __init__(self, owner: Tensor, table: Table, shape: torch.Size) -> None:
        self.owner, self.table, self.shape = owner, table, shape

    def _held(self) -> dict[str, Any]:
        return self.table.get(self.owner, {})

    def __getitem__(self, key: str) -> Any:
        value = self._held()[key]
        return torch.view_as_real(value) if isinstance(value, Tensor) and value.is_complex() else value

    def __setitem__(self, key: str, value: Any) -> None:
        if isinstance(value, Tensor) and value.shape == self.shape:
            value = torch.view_as_complex(value if value.stride(-1) == 1 else value.contiguous())
        self.table[self.owner][key] = value

    def __delitem__(self, key: str) -> None:
        del self._held()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._held())

    def __len__(self) -> int:
        return len(self._held())


class Master:
    """A parameter of half precision as its float32 copy, kept in the state as ``master``.

    The parameter is the copy, rounded. What is written into the parameter from outside (a constraint, loaded
    weights) is found by comparing the two, and counts.
    """

    def __init__(self, owner: Tensor, table: Table) -> None:
        self.owner = owner
        self.state: MutableMapping[str, Any] = table[owner]
        if "master" not in self.state:
            self.state["master"] = owner.detach().float()
        self.p: Tensor = self.state["master"]

    def gradient(self) -> Tensor | None:
        """The gradient, in the parameter's dtype: pieces of it are widened as they are used."""
        g = self.owner.grad
        if g is None or (g.layout, g.shape, g.dtype) != (torch.strided, self.owner.shape, self.owner.dtype):
            return None
        return g

    def begin(self) -> None:
        """Takes over what was written into the parameter."""
        rows = flat([self.p, self.owner.detach()])
        if rows is None:
            self.p.copy_(reconciled(self.p, self.owner))
            return
        for start in range(0, self.p.numel(), PIECE):
            copy, p = (row[start : start + PIECE] for row in rows)
            copy.copy_(reconciled(copy, p))

    def done(self) -> None:
        """Rounds the copy into the parameter."""
        self.owner.copy_(self.p)


def reconciled(master: Tensor, p: Tensor) -> Tensor:
    """The float32 copy, where it still rounds to `p`, else `p`."""
    return torch.where(master.to(p.dtype) == p, master, p.float())
