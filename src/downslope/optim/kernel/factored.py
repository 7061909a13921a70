"""Adafactor's step by kernels: tables of addresses, passes, and the sums between them.

    first pass of every family;  columns of large matrices joined, their U**2 added;  step lengths;  last pass

A table has a row for each piece of work of some 2^14 elements, cut by shape alone, and sums are added in the
order of its rows, so that bits do not depend on the threads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from downslope.optim.kernel import threads
from downslope.optim.kernel.build import EXACT
from downslope.optim.kernel.factored_texts import COLUMNS, SCALARS, UNROLLED, emit
from downslope.optim.kernel.store import kernel_of
from downslope.optim.kernel.table import check_memory, storage_of
from downslope.optim.rule import Scalars

__all__ = ["FactoredStep"]

PIECE = 1 << 14
"""Elements of a piece of work."""

WHOLE = 1 << 15
"""Elements up to which a matrix is worked on as a whole."""

BAND = 1 << 16
"""Elements of a band of rows of a larger one."""

Family = str | tuple[int, int]
Floats = npt.NDArray[np.float64]
Column = list[Tensor]


class FactoredStep:
    """Steps the tensors of one bucket of `ScaleByFactors`.

    Memory: 96 bytes for each piece of work, and for matrices of more than `WHOLE` elements a number for each
    column of each band of rows.

    Args:
        params: the parameters, contiguous, of one dtype.
        columns: their states: R and C, or V; contiguous.
        maximize: climb in place of descend.

    Raises:
        RecipeError: numba cannot be used.
    """

    def __init__(self, params: Column, columns: Sequence[Column], *, maximize: bool) -> None:
        self.sign = -1.0 if maximize else 1.0
        self.storage = storage_of(params[0]) or "", storage_of(columns[0][0]) or ""
        self.real = torch.float64 if self.storage[0] == "f8" else torch.float32
        self.looks = [_look(column) for column in (params, *columns)]
        self.sizes: Floats = np.array([max(p.numel(), 1) for p in params], np.float64)
        self.scalars = torch.zeros(len(params), SCALARS, dtype=self.real).numpy()
        self._cut(params, columns)

    def fits(self, params: Column, columns: Sequence[Column]) -> bool:
        """Whether parameters and states look as they did; where they moved, they are found again."""
        if [_addresses(column) for column in (params, *columns)] == self.held:
            return True
        if [_look(column) for column in (params, *columns)] != self.looks:
            return False
        self._cut(params, columns)
        return True

    def _cut(self, params: Column, columns: Sequence[Column]) -> None:
        """Lays out the tables."""
        self.held = [_addresses(column) for column in (params, *columns)]
        for column, held in zip((params, *columns), self.held, strict=True):
            check_memory(held, [tensor.numel() for tensor in column])
        self.tables: dict[Family, _Table] = {}
        self.joins = _Table("rows")
        self.scratch: list[Tensor] = []
        for owner, (p, *state) in enumerate(zip(params, *columns, strict=True)):
            if p.numel():
                self._cut_one(owner, p, state)
        for table in (*self.tables.values(), self.joins):
            table.settle(self.storage)

    def update(self, params: Column, grads: Column, ks: Sequence[Scalars]) -> None:
        """One step in place; see `Step`."""
        (k,) = ks
        self._tune(k)
        addresses = _addresses(grads)
        check_memory(addresses, [p.numel() for p in params])
        at = np.array(addresses, np.int64)
        for table in self.tables.values():
            table.rows[:, 1] = at[table.owner] + table.offset
            table.run(0, self.scalars)
        if "rows" in self.tables:
            self.joins.run(1, self.scalars)
            self.tables["rows"].run(2, self.scalars)
        sums = np.zeros((2, len(params)))
        for table in self.tables.values():
            for column in (0, 1):
                sums[column] += np.bincount(table.owner, table.sums[:, column], len(params))
        self.scalars[:, 5] = self._lengths(np.sqrt(sums / self.sizes), k)
        for family, table in self.tables.items():
            table.run(3 if family == "rows" else 1, self.scalars)
        torch.autograd.graph.increment_version(params)

    def measure(self, link: int, grads: Column, ks: Sequence[Scalars]) -> list[Tensor]:
        """Nothing: the sums belong to the step."""
        return []

    def _tune(self, k: Scalars) -> None:
        values: dict[str, Any] = vars(k)
        low = torch.finfo(self.real).eps if values["low"] is None else values["low"]
        with np.errstate(divide="ignore", over="ignore"):
            self.scalars[:, :3] = values["keep"], values["gain"], low
            self.scalars[:, 3] = 1.0 / self.scalars[:, 2]
        self.scalars[:, 4] = 1.0 - values["shrink"]

    def _lengths(self, roots: Floats, k: Scalars) -> Floats:
        """What U is multiplied by, from the root mean squares of p and U; one that is NaN cuts nothing."""
        values: dict[str, Any] = vars(k)
        size, cut = roots[0], roots[1] / values["d"]
        with np.errstate(invalid="ignore"):
            size, cut = np.where(size > values["least"], size, values["least"]), np.where(cut > 1.0, cut, 1.0)
        return self.sign * values["rate"] * size / cut

    def _cut_one(self, owner: int, p: Tensor, state: Column) -> None:
        if len(state) == 1:
            for low in range(0, p.numel(), PIECE):
                at = low * p.element_size()
                ends = p.data_ptr() + at, 0, state[0].data_ptr() + low * state[0].element_size()
                self._of("vector").add(owner, at, (*ends, 0, 0, 0, 1, 1, min(PIECE, p.numel() - low), owner))
            return
        m, n = state[0].shape[-2], state[1].shape[-1]
        if m * n <= WHOLE:
            self._cut_matrices((m, n) if m * n <= UNROLLED else "matrices", owner, p, state)
        else:
            for matrix in range(p.numel() // (m * n)):
                self._cut_rows(owner, matrix, p, state)

    def _cut_matrices(self, family: Family, owner: int, p: Tensor, state: Column) -> None:
        (rows, columns), m, n = state, state[0].shape[-2], state[1].shape[-1]
        count, each, width = p.numel() // (m * n), max(1, PIECE // (m * n)), state[0].element_size()
        for low in range(0, count, each):
            at = low * m * n * p.element_size()
            ends = (
                p.data_ptr() + at,
                0,
                rows.data_ptr() + low * m * width,
                columns.data_ptr() + low * n * width,
            )
            room = self._room(n) if family == "matrices" else 0
            self._of(family).add(owner, at, (*ends, room, 0, m, n, min(each, count - low), owner))

    def _cut_rows(self, owner: int, matrix: int, p: Tensor, state: Column) -> None:
        m, n, width = state[0].shape[-2], state[1].shape[-1], state[0].element_size()
        each = max(16, BAND // n)
        bands = math.ceil(m / each)
        partial, joined = self._room(bands * n), self._room(n + 1)
        top, left = state[0].data_ptr() + matrix * m * width, state[1].data_ptr() + matrix * n * width
        for band in range(bands):
            low = band * each
            at = (matrix * m + low) * n * p.element_size()
            room = partial + band * n * self.scalars.itemsize
            ends = p.data_ptr() + at, 0, top + low * width, left, room, joined
            self._of("rows").add(owner, at, (*ends, m, n, min(each, m - low), owner))
        for low in range(0, n, 1024):
            self.joins.add(
                owner, 0, (0, 0, top, left, partial, joined, m, n, min(1024, n - low), owner, low, bands)
            )

    def _of(self, family: Family) -> _Table:
        return self.tables.setdefault(family, _Table(family))

    def _room(self, count: int) -> int:
        """The address of `count` numbers to work with."""
        self.scratch.append(torch.empty(count, dtype=self.real))
        return self.scratch[-1].data_ptr()


class _Table:
    """The pieces of work of one family, and its kernel."""

    def __init__(self, family: Family) -> None:
        self.family = family
        self.listed: list[tuple[int, ...]] = []
        self.owners: list[int] = []
        self.offsets: list[int] = []

    def add(self, owner: int, offset: int, row: tuple[int, ...]) -> None:
        """One more piece: whose it is, how many bytes into p and g it begins, and its row."""
        self.listed.append((*row, *(0,) * (COLUMNS - len(row))))
        self.owners.append(owner)
        self.offsets.append(offset)

    def settle(self, storage: tuple[str, str]) -> None:
        """Makes arrays of the rows, and the kernel."""
        if not self.listed:
            return
        self.rows = np.array(self.listed, np.int64)
        self.owner, self.offset = np.array(self.owners, np.int64), np.array(self.offsets, np.int64)
        self.sums: Floats = np.zeros((len(self.rows), 2))
        self.kernel = kernel_of(emit(self.family, *storage, threads=threads.team() is not None), EXACT)

    def run(self, mode: int, scalars: npt.NDArray[Any]) -> None:
        """One pass over all rows."""
        rows, sums = self.rows.ctypes.data, self.sums.ctypes.data
        data = np.array([len(self.rows), rows, scalars.ctypes.data, sums, mode, 0, 0, 1], np.int64)
        threads.run(self.kernel, data, threads.parts_for(len(self.rows) * PIECE))


def _addresses(column: Column) -> list[int]:
    return [tensor.data_ptr() for tensor in column]


def _look(column: Column) -> list[tuple[Any, ...]]:
    return [(tensor.shape, tensor.dtype, tensor.device, tensor.is_contiguous()) for tensor in column]
