"""Adafactor's step by kernels: tables of addresses, passes, and the sums between them.

    tensors of up to `WHOLE` elements: each by one thread, both stages at once, while the cache holds it
    others: first stage of all;  columns joined, U**2 added (large matrices);  lengths;  last stage

A table has a row for each piece of work of some 2^14 elements, or a whole tensor, cut by shape alone, and
sums are added in the order of its rows, so that bits do not depend on the threads.
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
from downslope.optim.kernel.factored_texts import COLUMNS, SCALARS, SHARES, UNROLLED, emit
from downslope.optim.kernel.store import kernel_of
from downslope.optim.kernel.table import storage_of
from downslope.optim.looks import are_whole
from downslope.optim.rule import Scalars

__all__ = ["FactoredStep"]

PIECE = 1 << 14
"""Elements of a piece of work."""

WHOLE = 1 << 17
"""Elements up to which a tensor, or else a matrix, is worked on as a whole: with its gradient, a megabyte."""

BAND = 1 << 16
"""Elements of a band of rows of a larger one."""

NARROW, SMALL, FEW = 16, 256, 8
"""Columns and elements up to which matrices share vectors, and how many it takes."""

BLOCK = 1 << 11
"""Elements of the matrices that are transposed together: the first cache holds them."""

Family = str | tuple[int, int]
"""As `factored_texts` has them."""
Floats = npt.NDArray[np.float64]
Column = list[Tensor]


class FactoredStep:
    """Steps the tensors of one bucket of `ScaleByFactors`.

    Memory: 104 bytes for each piece of work, for each thread a row, or a block of small matrices, and for
    matrices of more than `WHOLE` elements a number for each column of each band of rows.

    Args:
        params: the parameters, contiguous, of one dtype.
        columns: their states: R and C, or V; contiguous.
        maximize: climb in place of descend.

    Raises:
        RecipeError: numba cannot be used.
    """

    def __init__(self, params: Column, columns: Sequence[Column], *, maximize: bool) -> None:
        self.sign = -1.0 if maximize else 1.0
        self.turned: Sequence[int] = ()
        self.serves = False
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
        if not all(map(are_whole, (params, *columns))):
            return False
        self._cut(params, columns)
        return True

    def _cut(self, params: Column, columns: Sequence[Column]) -> None:
        """Lays out the tables."""
        self.held = [_addresses(column) for column in (params, *columns)]
        self.tables: dict[tuple[Family, bool], _Table] = {}
        self.joins = _Table("rows")
        self.scratch: list[Tensor] = []
        self.places: dict[tuple[int, int, int], npt.NDArray[np.int32]] = {}
        self.each = 0
        for owner, (p, *state) in enumerate(zip(params, *columns, strict=True)):
            if p.numel():
                self._cut_one(owner, p, state)
        for table in (*self.tables.values(), self.joins):
            table.settle(self.storage)
        self.room = np.empty(0, self.scalars.dtype)

    def update(self, params: Column, grads: Column, ks: Sequence[Scalars]) -> None:
        """One step in place; see `Step`."""
        (k,) = ks
        self._tune(k)
        at = np.array(_addresses(grads), np.int64)
        for (_, whole), table in self.tables.items():
            table.rows[:, 1] = at[table.owner] + table.offset
            self._run(table, 0, 2 if whole else 1)
        cut = {name: table for (name, whole), table in self.tables.items() if not whole}
        if cut:
            self._finish(cut, k)
        torch.autograd.graph.increment_version(params)

    def _finish(self, tables: dict[Family, _Table], k: Scalars) -> None:
        """What is left of the step of tensors that are cut, once their first stage is done."""
        if "rows" in tables:
            self._run(self.joins, 1, 2)
            self._run(tables["rows"], 2, 3)
        sums = np.zeros((2, len(self.sizes)))
        for table in tables.values():
            for column in (0, 1):
                sums[column] += np.bincount(table.owner, table.sums[:, column], len(self.sizes))
        self.scalars[:, 5] = self._lengths(np.sqrt(sums / self.sizes), k)
        for name, table in tables.items():
            self._run(table, *((3, 4) if name == "rows" else (1, 2)))

    def _run(self, table: _Table, begin: int, end: int) -> None:
        """Stages `begin` to `end` of all rows."""
        parts = threads.parts_for(table.elements)
        if self.room.size < parts * self.each:
            self.room = np.empty(parts * self.each, self.scalars.dtype)
        room = self.room.ctypes.data, self.each * self.room.itemsize
        rows, sums = table.rows.ctypes.data, table.sums.ctypes.data
        data = [len(table.rows), rows, self.scalars.ctypes.data, sums, begin, end, 0, 1, *room]
        threads.run(table.kernel, np.array(data, np.int64), parts)

    def measure(self, link: int, grads: Column, ks: Sequence[Scalars]) -> list[Tensor]:
        """Nothing: the sums belong to the step."""
        return []

    def _tune(self, k: Scalars) -> None:
        values: dict[str, Any] = vars(k)
        low = torch.finfo(self.real).eps if values["low"] is None else values["low"]
        given = np.array(
            [values["keep"], values["gain"], low, 0.0, 1.0 - values["shrink"], 0.0], self.scalars.dtype
        )
        last = [self.sign * values["rate"], values["least"], values["d"]]
        self.scalars[:, :6], self.scalars[:, 6:9] = given, last
        with np.errstate(divide="ignore", over="ignore"):
            self.scalars[:, 3] = 1.0 / given[2]
            most = np.finfo(self.scalars.dtype).max
            self.scalars[:, 9] = min(self.scalars[0, 3] * self.scalars[0, 3], most)

    def _lengths(self, roots: Floats, k: Scalars) -> Floats:
        """What U is multiplied by, from the root mean squares of p and U; one that is NaN cuts nothing."""
        values: dict[str, Any] = vars(k)
        size, cut = roots[0], roots[1] / values["d"]
        with np.errstate(invalid="ignore"):
            size, cut = np.where(size > values["least"], size, values["least"]), np.where(cut > 1.0, cut, 1.0)
        return self.sign * values["rate"] * size / cut

    def _cut_one(self, owner: int, p: Tensor, state: Column) -> None:
        if len(state) == 1:
            self._cut_pieces("vector", owner, p, (state[0], state[0]), (1, 1))
            return
        m, n = state[0].shape[-2], state[1].shape[-1]
        shared = (n <= NARROW and m * n <= SMALL) or m * n <= 4 * NARROW
        if m * n > WHOLE:
            for matrix in range(p.numel() // (m * n)):
                self._cut_rows(owner, matrix, p, state)
        elif m * n == 1:
            self._cut_pieces("ones", owner, p, state, (1, 1))
        elif m * n <= UNROLLED:
            self._cut_pieces((m, n), owner, p, state, (m, n))
        elif shared and p.numel() >= FEW * m * n:
            self._cut_pieces("lanes", owner, p, state, (m, n))
        else:
            self._cut_pieces("matrices", owner, p, state, (m, n))

    def _cut_pieces(
        self, name: Family, owner: int, p: Tensor, state: Sequence[Tensor], shape: tuple[int, int]
    ) -> None:
        """Rows of `PIECE` elements, or one of all, each of whole matrices of `shape`."""
        (rows, columns), (m, n), width = state, shape, state[0].element_size()
        count, whole = p.numel() // (m * n), p.numel() <= WHOLE
        each = count if whole else max(1, PIECE // (m * n))
        block = 0 if name != "lanes" else min(count, max(32, BLOCK // (m * n) // 32 * 32))
        self.each = max(self.each, n, (2 * m * n + m + n + 1) * block)
        for low in range(0, count, each):
            at = low * m * n * p.element_size()
            ends = (
                p.data_ptr() + at,
                0,
                rows.data_ptr() + low * m * width,
                columns.data_ptr() + low * n * width,
            )
            now = min(each, count - low)
            places = [self._places(m, n, size) for size in (block, now % block)] if block else (0, 0)
            self._of(name, whole).add(owner, at, (*ends, 0, places[0], m, n, now, owner, 0, block, places[1]))

    def _places(self, m: int, n: int, block: int) -> int:
        """The address of the places of a block of (m, n) matrices, transposed and back.

        For m n, m and n numbers a matrix: that of number e of matrix x, by (e, x); then by where it lies.
        """
        if (m, n, block) not in self.places:
            order = [np.arange(size * block, dtype=np.int32) for size in (m * n, m, n)]
            both = [
                each.reshape(way).T.ravel() for each in order for way in ((block, -1), (-1, block)) if block
            ]
            self.places[m, n, block] = np.concatenate(both or order)
        return self.places[m, n, block].ctypes.data

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
            self._of("rows", False).add(owner, at, (*ends, m, n, min(each, m - low), owner))
        for low in range(0, n, 1024):
            self.joins.add(
                owner, 0, (0, 0, top, left, partial, joined, m, n, min(1024, n - low), owner, 0, low, bands)
            )

    def _of(self, name: Family, whole: bool) -> _Table:
        return self.tables.setdefault((name, whole), _Table(name))

    def _room(self, count: int) -> int:
        """The address of `count` numbers to work with."""
        self.scratch.append(torch.empty(count, dtype=self.real))
        return self.scratch[-1].data_ptr()


class _Table:
    """The pieces of work of one family, and its kernel."""

    def __init__(self, name: Family) -> None:
        self.name = name
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
        sizes = self.rows[:, 8] * np.where(self.name == "rows", 1, self.rows[:, 6]) * self.rows[:, 7]
        self.elements = int(sizes.sum())
        self.rows[:, 10] = SHARES * (np.cumsum(sizes) - 0.5 * sizes) / self.elements
        self.kernel = kernel_of(emit(self.name, *storage, threads=threads.team() is not None), EXACT)


def _addresses(column: Column) -> list[int]:
    return [tensor.data_ptr() for tensor in column]


def _look(column: Column) -> list[tuple[Any, ...]]:
    return [(tensor.shape, tensor.dtype, tensor.device, tensor.is_contiguous()) for tensor in column]
