"""The tensors of one bucket as a table of addresses, and the step that a kernel makes of it.

Parameters, gradients and states stay where they are; large ones are cut into pieces, so that threads share
them. Addresses are asked for at every step, as a model may be moved, swapped or loaded between two of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from downslope.core.errors import RecipeError
from downslope.optim.kernel import threads
from downslope.optim.kernel.build import EXACT
from downslope.optim.kernel.emit import COLUMNS, NARROW, STORAGE, emit
from downslope.optim.kernel.store import kernel_of
from downslope.optim.kernel.threads import Words
from downslope.optim.kernel.trace import Program, Traced
from downslope.optim.looks import are_whole
from downslope.optim.portions import Along
from downslope.optim.rounding import ODD, Streams
from downslope.optim.rule import Scalars

__all__ = ["KernelStep", "storage_of"]

PIECE = 1 << 14
"""Elements of a row at most: of several arrays, they lie in a core's second cache together."""

Column = list[Tensor]
Sums = npt.NDArray[np.float64]

_COPIED = 1 << 17
"""Elements of gradients that are copied at a time, where they lie otherwise than their parameters."""

_address = Tensor.data_ptr


def storage_of(tensor: Tensor) -> str | None:
    """What kernels call the tensor's dtype; None where they have none."""
    return STORAGE.get(_name(tensor.dtype))


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


class KernelStep:
    """Steps the tensors of one bucket.

    Memory: eight bytes for each column of each row of the table, of `PIECE` elements or less.

    Args:
        traced: programs of the bucket's chain.
        params: the parameters, dense in memory, of one dtype.
        columns: their states by the chain's keys, laid out in memory as they are.
        maximize: climb in place of descend.
        streams: of random bits, where bfloat16 is rounded by chance.
        squares: the column of which `update_and_add` adds up the squares, as they were written.
        owners: the parameters of half precision of which `params` are the float32 copies, laid out as these,
            and written too.
        narrow: dtype of the gradients, where it is not that of `params`.

    Raises:
        RecipeError: numba cannot be used, or the states of a column are not of one kind.
    """

    def __init__(
        self,
        traced: Traced,
        params: Column,
        columns: Sequence[Column],
        *,
        maximize: bool,
        streams: Streams | None = None,
        squares: int | None = None,
        owners: Column | None = None,
        narrow: torch.dtype | None = None,
    ) -> None:
        self.traced, self.sign = traced, -1.0 if maximize else 1.0
        self.streams = streams
        self.turned: Sequence[int] = ()
        self.serves = bool(owners)
        self.owners = [owners] if owners else []
        firsts = [column[0] for column in (params, params, *columns, *self.owners)]
        self.kinds = [(first.dtype, first.device) for first in firsts]
        self.widths = [first.element_size() for first in firsts]
        self.widths[1] = (narrow or params[0].dtype).itemsize
        storage = [storage_of(tensor) or "" for tensor in (params[0], *(column[0] for column in columns))]
        team, chance = threads.team() is not None, streams is not None
        grad = "" if narrow is None else NARROW[_name(narrow)]
        owner = grad if owners else ""
        text = emit(traced, storage, threads=team, chance=chance, squares=squares, grad=grad, owner=owner)
        self.kernel = kernel_of(text, EXACT)
        self.real = np.float64 if storage[0] == "f8" else np.float32
        self.modes = {link: mode for mode, link in enumerate(traced.measures, 1)}
        self.sizes = [p.numel() for p in params]
        self.strides = [p.stride() for p in params]
        self.held: list[list[int]] = [[] for _ in firsts]
        self.pointed: Column | None = None
        self._cut()
        self._hold(1)
        if not self.fits(params, columns):
            raise RecipeError("states of one name are of several dtypes, devices or layouts")

    def _cut(self) -> None:
        """Lay out the rows: which tensor each belongs to, and where in it."""
        sizes = np.asarray(self.sizes, np.int64)
        pieces = -(-sizes // PIECE)
        self.owner = np.repeat(np.arange(len(pieces)), pieces)
        self.starts = np.cumsum(pieces) - pieces
        self.offset = (np.arange(len(self.owner)) - self.starts[self.owner]) * PIECE
        extra = len(self.owners) + (0 if self.streams is None else 2)
        self.table = np.zeros((len(self.owner), COLUMNS + self.traced.states + extra), np.int64)
        self.table[:, 2] = np.minimum(sizes[self.owner] - self.offset, PIECE)
        self.table[:, 3] = np.cumsum(self.table[:, 2]) - self.table[:, 2]
        self.elements = sum(self.sizes)
        self.filled = pieces > 0
        self.begins = self.starts[self.filled]
        self.whole = bool((pieces == 1).all())

    def fits(self, params: Column, columns: Sequence[Column]) -> bool:
        """Whether parameters and states are what the table was made for, and have memory; where they lie is
        written down.
        """
        each = (params, *columns, *self.owners)
        for place, tensors in zip((0, *range(2, len(self.held))), each, strict=True):
            found = list(map(_address, tensors))
            if found == self.held[place]:
                continue
            kind = self.kinds[place]
            for tensor, size, stride in zip(tensors, self.sizes, self.strides, strict=True):
                alike = (tensor.dtype, tensor.device) == kind and tensor.stride() == stride
                if not alike or tensor.numel() != size:
                    return False
            if not are_whole(tensors):
                return False
            self._point(place, found)
        return True

    def _point(self, place: int, found: list[int]) -> None:
        """Write down the addresses of p, g, or a state."""
        self.held[place] = found
        base = np.array(found, np.int64)
        column = place if place < 2 else COLUMNS + place - 2
        moved = self.widths[place] * self.offset
        self.table[:, column] = base if self.whole else base[self.owner] + moved

    def _tune(self, ks: Sequence[Scalars], reads: frozenset[str]) -> None:
        """Write the scalars that are read: one row, or one for each parameter where any differs."""
        values: list[Any] = [self.sign]
        for name, (i, of) in self.traced.scalars.items():
            values.append(getattr(ks[i], of) if name in reads else 0.0)
        each = any(isinstance(value, Tensor) and value.ndim for value in values)
        rows = len(self.sizes) if each else 1
        if len(self.scalars) != rows:
            self._hold(rows)
        for i, value in enumerate(values):
            self.scalars[:, i] = value.numpy(force=True) if isinstance(value, Tensor) else value

    def _hold(self, rows: int) -> None:
        """Memory for so many rows of scalars; where it and the table lie is asked once."""
        self.scalars = np.zeros((rows, 1 + len(self.traced.scalars)), self.real)
        self.table[:, 4] = self.owner if rows > 1 else 0
        self.head = [len(self.table), self.table.ctypes.data, self.scalars.ctypes.data]

    def _call(
        self, mode: int, grads: Column, ks: Sequence[Scalars], program: Program, sums: Sums | None
    ) -> None:
        if grads is not self.pointed:  # else they were found when this step's sums were taken
            found = list(map(_address, grads))
            if found != self.held[1]:
                self._point(1, found)
        self.pointed = grads if mode and not self.turned else None
        self._tune(ks, program.reads)
        if not self.turned:
            self._run(mode, self.head, self.elements, sums)
            return
        self._run_some(mode, np.flatnonzero(~np.isin(self.owner, self.turned)), sums)
        for rows, held in self._laid_out(grads):
            self._run_some(mode, rows, sums)
            del held
        self.held[1] = []  # they are to be pointed to anew

    def _run(self, mode: int, head: list[int], elements: int, sums: Sums | None) -> None:
        total = 0 if sums is None else sums.ctypes.data
        data = np.array([*head, total, mode, elements, 0, 1], np.int64)
        threads.run(self.kernel, data, threads.parts_for(elements))

    def _run_some(self, mode: int, rows: Words, sums: Sums | None) -> None:
        """The kernel on some rows of the table."""
        table = self.table[rows]
        table[:, 3] = np.cumsum(table[:, 2]) - table[:, 2]
        own = None if sums is None else np.zeros((len(rows), sums.shape[1]))
        head = [len(table), table.ctypes.data, self.head[2]]
        self._run(mode, head, int(table[:, 2].sum()), own)
        if sums is not None and own is not None:
            sums[rows] = own

    def _laid_out(self, grads: Column) -> Iterator[tuple[Words, list[Tensor]]]:
        """Rows whose gradients lie otherwise than their parameters, some at a time, pointed to copies."""
        rows: list[int] = []
        copies: list[Tensor] = []
        size = 0
        for n in self.turned:
            along = Along(grads[n], self.strides[n])
            start = int(self.starts[n])
            for row in range(start, start + -(-self.sizes[n] // PIECE)):
                low, count = int(self.offset[row]), int(self.table[row, 2])
                copies.append(along.of(low, low + count))
                self.table[row, 1] = copies[-1].data_ptr()
                rows.append(row)
                size += count
                if size >= _COPIED:
                    yield np.array(rows), copies
                    rows, copies, size = [], [], 0
        if rows:
            yield np.array(rows), copies

    def update(self, params: Column, grads: Column, ks: Sequence[Scalars]) -> None:
        """Step: parameters and states change in place.

        Args:
            params: the parameters; they and the states have been found to fit.
            grads: their gradients, laid out in memory as they are.
            ks: scalars of every link, settled; numbers, or one for each parameter.
        """
        if self.streams is not None:
            keys = self.streams.following()[self.owner]
            self.table[:, -2] = keys + self.offset.astype(np.uint64) * np.uint64(ODD)  # the lower half counts
            self.table[:, -1] = keys >> np.uint64(32)
        self._call(0, grads, ks, self.traced.update, None)
        if self.traced.update.results[0] != 0.0:
            torch.autograd.graph.increment_version(list(itertools.chain(params, *self.owners)))

    def update_and_add(self, grads: Column, ks: Sequence[Scalars]) -> Tensor:
        """`update` of the states alone, and for each parameter the sum of the squares of one, in float64."""
        rows = np.zeros((len(self.table), 1))
        self._call(0, grads, ks, self.traced.update, rows)
        return self._of_tensors(rows, (False,))[0]

    def measure(self, link: int, grads: Column, ks: Sequence[Scalars]) -> list[Tensor]:
        """For each total that link number `link` wants, a float64 tensor with an entry for each parameter."""
        program = self.traced.measures[link]
        rows = np.zeros((len(self.table), len(program.results)))
        self._call(self.modes[link], grads, ks, program, rows)
        return self._of_tensors(rows, program.peaks)

    def _of_tensors(self, rows: Sums, peaks: Sequence[bool]) -> list[Tensor]:
        """The totals of tensors, of those of their rows."""
        return list(torch.from_numpy(rows if self.whole else self._joined(rows, peaks)).unbind(1))

    def _joined(self, rows: Sums, peaks: Sequence[bool]) -> Sums:
        totals = np.zeros((len(self.sizes), len(peaks)))
        for i, peak in enumerate(peaks if len(rows) else ()):
            joined = np.maximum if peak else np.add
            totals[self.filled, i] = joined.reduceat(rows[:, i], self.begins)
        return totals
