"""CSV: a text table to tensors, with the type of every column inferred from its cells and told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from downslope.core.errors import DataError
from downslope.core.names import did_you_mean
from downslope.core.sources import Origin
from downslope.data import target as targets
from downslope.data.csv_text import Cells, is_date, is_missing, number, read_cells, without_thousands
from downslope.data.split import parts
from downslope.data.table import Loaded

MOST_LEVELS = 50
"""A text column with more distinct values is an identifier or free text, and is left out."""

MOSTLY = 0.95
"""A column with at least this share of numbers is numeric, and its other cells are missing."""

Floats = npt.NDArray[np.float32]


class Column(NamedTuple):
    """One column of the file as columns of the input; none where it is left out."""

    names: list[str]
    values: Floats
    """Shape (n, number of names)."""


def load_csv(path: Path, target: str | None, *, seed: int, valid: float) -> Loaded:
    """Inputs and target from a text table; see `downslope.data.paths.load_path`."""
    cells = read_cells(path, target)
    told = list(cells.told)
    goal = _target_index(cells, target, path, told)
    cells = _with_target(cells, goal, path, told)
    decided = _decide(_cells_of(cells, goal, told), cells.names[goal])
    told.append(decided.told)
    _check_classes(decided, path, cells.names[goal], len(cells.rows))
    columns = [
        _column(name, _cells_of(cells, i, told), cells.lines, told.append)
        for i, name in enumerate(cells.names)
        if i != goal
    ]
    names = [name for column in columns for name in column.names]
    if not names:
        reason = told[-1] if columns else "it is the only one"
        raise DataError(f"{path.name}: no column but {cells.names[goal]!r} can be used as an input: {reason}")
    inputs = torch.from_numpy(np.concatenate([column.values for column in columns], axis=1))
    _tell_gaps(inputs, names, told)
    stratify = decided.task == "classification"
    cut = parts(inputs, decided.values, valid=valid, seed=seed, stratify=stratify)
    lines, name = np.array(cells.lines), cells.names[goal]
    first, rest = (
        Origin(path.name, "line", lines[rows], columns=names, target=name)
        for rows in (cut.train_rows, cut.valid_rows)
    )
    return Loaded(cut.train, cut.valid, decided.task, names, decided.classes, name, told, (first, rest))


def _target_index(cells: Cells, target: str | None, path: Path, told: list[str]) -> int:
    if target is None:
        told.append(f"no target named: the last column, {cells.names[-1]!r}, is taken")
        return len(cells.names) - 1
    if target not in cells.names:
        exact = [name for name in cells.names if name.lower() == target.lower()]
        hint = f"; did you mean {exact[0]!r}?" if exact else did_you_mean(target, cells.names[:30])
        raise DataError(f"{path.name}: no column {target!r}{hint}")
    return cells.names.index(target)


def _with_target(cells: Cells, goal: int, path: Path, told: list[str]) -> Cells:
    """The rows that have a target; in a column of numbers, what is no number is none."""
    name = cells.names[goal]
    keep = [i for i, row in enumerate(cells.rows) if not is_missing(row[goal])]
    if not keep:
        raise DataError(f"{path.name}: the target column {name!r} holds no value")
    if len(keep) < len(cells.rows):
        told.append(f"{len(cells.rows) - len(keep)} rows without a target are left out")
    odd = [i for i in keep if all(number(cells.rows[i][goal], d) is None for d in (".", ","))]
    if 0 < len(odd) <= (1 - MOSTLY) * len(keep):
        told.append(
            f"target {name!r}: {len(odd)} cells are no number and their rows are left out, the first is "
            f"{cells.rows[odd[0]][goal]!r} in line {cells.lines[odd[0]]}"
        )
        keep = sorted(set(keep) - set(odd))
    return cells._replace(rows=[cells.rows[i] for i in keep], lines=[cells.lines[i] for i in keep])


def _cells_of(cells: Cells, index: int, told: list[str]) -> list[str]:
    """One column, without the commas that group its thousands."""
    column = [row[index] for row in cells.rows]
    plain = without_thousands(column, cells.delimiter)
    if plain is not None:
        told.append(f"column {cells.names[index]!r} groups thousands with commas")
    return plain or column


def _check_classes(decided: targets.Decided, path: Path, name: str, rows: int) -> None:
    """Refuse a target that only names its rows."""
    count = len(decided.classes)
    if count > targets.MOST_CLASSES and 2 * count > rows:
        raise DataError(
            f"{path.name}: target {name!r} is text with {count} different values in {rows} rows: no class "
            "recurs often enough to be learnt; take another column as the target"
        )


def _decide(values: list[str], name: str) -> targets.Decided:
    for decimal in (".", ","):
        numbers = [number(value, decimal) for value in values]
        if None not in numbers:
            array = np.array(numbers, dtype=np.float64)
            return targets.of_numbers(array, name, floating=not bool(np.isfinite(array).all()))
    return targets.of_text(values, name)


def _column(name: str, cells: list[str], lines: list[int], tell: Callable[[str], None]) -> Column:
    plain = _plain(cells)
    if plain is not None:
        return _numeric(name, plain, tell)
    present = [i for i, cell in enumerate(cells) if not is_missing(cell)]
    if not present:
        tell(f"column {name!r} is empty and left out")
        return Column([], np.empty((len(cells), 0), np.float32))
    for decimal in (".", ","):
        values = [None if is_missing(cell) else number(cell, decimal) for cell in cells]
        bad = [i for i in present if values[i] is None]
        if len(bad) <= (1 - MOSTLY) * len(present):
            if decimal == ",":
                tell(f"column {name!r} is written with a decimal comma")
            if bad:
                tell(
                    f"column {name!r}: {len(bad)} cells are no number and count as missing, the first "
                    f"is {cells[bad[0]]!r} in line {lines[bad[0]]}"
                )
            array = np.array([np.nan if value is None else value for value in values])
            return _numeric(name, array, tell)
    return _categorical(name, cells, tell)


def _plain(cells: list[str]) -> npt.NDArray[np.float64] | None:
    """A column of nothing but numbers, the usual case, in one pass."""
    try:
        array = np.array([float(cell) for cell in cells])
    except ValueError:
        return None
    # float() reads 1_000 as a number; and what spells "nan" in every row is an empty column.
    return None if np.isnan(array).all() or "_" in "".join(cells) else array


def _numeric(name: str, array: npt.NDArray[np.float64], tell: Callable[[str], None]) -> Column:
    steps = np.diff(array)
    counter = name.lower() in {"id", "index", "unnamed: 0", "column1", "rownames", "row"}
    counter = counter and len(array) > 2 and array[0] in (0, 1)
    if counter and bool(np.all(steps == 1)):
        tell(f"column {name!r} only counts the rows and is left out")
        return Column([], np.empty((len(array), 0), np.float32))
    if len(array) > 1 and bool(np.all(array == array[0])):
        tell(f"column {name!r} is constant")
    with np.errstate(over="ignore"):
        return Column([name], array.astype(np.float32)[:, None])


def _categorical(name: str, cells: list[str], tell: Callable[[str], None]) -> Column:
    """One column of 0 and 1 for each level; one in all where there are two levels."""
    if sum(map(is_date, cells)) >= MOSTLY * sum(not is_missing(cell) for cell in cells):
        tell(f"column {name!r} holds dates and is left out; numbers made of them (days, months) can be used")
        return Column([], np.empty((len(cells), 0), np.float32))
    filled = ["missing" if is_missing(cell) else cell for cell in cells]
    levels = sorted(set(filled))
    if len(levels) > max(2, min(MOST_LEVELS, len(cells) // 2)):
        tell(f"column {name!r} is text with {len(levels)} different values and is left out")
        return Column([], np.empty((len(cells), 0), np.float32))
    if len(levels) == 1:
        tell(f"column {name!r} is text with one value and is left out")
        return Column([], np.empty((len(cells), 0), np.float32))
    used = levels[1:] if len(levels) == 2 else levels
    tell(
        f"column {name!r} is text: {len(used)} columns of 0 and 1"
        if len(used) > 1
        else f"column {name!r} is text: 1 where it is {used[0]!r}, else 0"
    )
    array = np.array(filled)
    return Column(
        [f"{name}={level}" for level in used],
        np.stack([(array == level).astype(np.float32) for level in used], axis=1),
    )


def _tell_gaps(inputs: torch.Tensor, names: list[str], told: list[str]) -> None:
    gaps = inputs.isnan().sum(0)
    where = [(names[i], int(gaps[i])) for i in gaps.nonzero().flatten()]
    if where:
        listed = ", ".join(f"{name!r} {count}" for name, count in where[:5])
        more = f" and {len(where) - 5} columns more" if len(where) > 5 else ""
        told.append(f"missing values are kept as NaN: {listed}{more}")
