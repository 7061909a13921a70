"""CSV: a text table to tensors, with the type of every column inferred from its cells and told."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from downslope.core.errors import DataError
from downslope.core.names import did_you_mean
from downslope.core.sources import Origin
from downslope.data import target as targets
from downslope.data.columns import Columns, Numbers, Rows
from downslope.data.csv_large import read_columns
from downslope.data.csv_second import (
    Coding,
    aligned,
    coded,
    coding_of,
    refuse_overflow,
    takes_numbers,
)  # fmt: skip
from downslope.data.csv_text import is_date, is_missing, number, without_thousands
from downslope.data.split import parts
from downslope.data.table import Loaded, Pair

MOST_LEVELS = 50
"""A text column with more distinct values is an identifier or free text, and is left out."""

MOSTLY = 0.95
"""A column with at least this share of numbers is numeric, and its other cells are missing."""

KEPT = "missing values are kept as NaN"

Floats = npt.NDArray[np.float32]


class Column(NamedTuple):
    """One column of the file as columns of the input; none where it is left out."""

    names: list[str]
    values: Floats
    """Shape (n, number of names)."""
    coding: Coding = Coding("left out")
    """How the cells became values, for another file of the same columns."""
    odd: tuple[tuple[int, str], ...] = ()
    """Line and text of the cells that are no numbers among numbers."""


Read = Callable[[Path, str | None], Columns]
"""A file and a column that has to be there, to columns."""


def load_csv(path: Path, target: str | None, *, seed: int, valid: float | Path) -> Loaded:
    """Inputs and target from a text table; see `downslope.data.paths.load_path`."""
    return load_columns(path, read_columns, target, seed=seed, valid=valid)


def load_columns(path: Path, read: Read, target: str | None, *, seed: int, valid: float | Path) -> Loaded:
    """Inputs and target from the columns that `read` gives of a file."""
    cells = read(path, target)
    told = list(cells.told)
    goal = _target_index(cells, target, path, told)
    doubts = (*cells.doubts, *([told[-1]] if target is None else []))
    cells = _with_target(cells, goal, path, told)
    decided, decimal = _decide(cells, goal, told)
    told.append(decided.told)
    _check_classes(decided, path, cells.names[goal], len(cells))
    columns = {i: _column(name, cells, i, told) for i, name in enumerate(cells.names) if i != goal}
    numbers = {i: column.values[:, 0] for i, column in columns.items() if column.coding.kind == "number"}
    _refuse_overflow(cells, numbers | ({goal: decided.values.numpy()} if not decided.classes else {}), path)
    names = [name for column in columns.values() for name in column.names]
    if not names:
        reason = told[-1] if columns else "it is the only one"
        raise DataError(f"{path.name}: no column but {cells.names[goal]!r} can be used as an input: {reason}")
    inputs = torch.from_numpy(np.concatenate([column.values for column in columns.values()], axis=1))
    _tell_gaps(inputs, names, told)
    name = cells.names[goal]
    spelt = {(line, cells.names[i]): text for i, column in columns.items() for line, text in column.odd}

    def origin(file: Path, lines: Rows, rows: Rows) -> Origin:
        here = spelt if file is path else None
        return Origin(file.name, "line", lines[rows], columns=names, target=name, spelt=here)

    stratify = decided.task == "classification"
    share = 0.0 if isinstance(valid, Path) else valid
    cut = parts(inputs, decided.values, valid=share, seed=seed, stratify=stratify)
    first = origin(path, cells.lines, cut.train_rows)
    if isinstance(valid, Path):
        held, lines = _second(valid, read, path, cells.names, goal, columns, decided, decimal)
        rest = origin(valid, lines, np.arange(len(lines)))
    else:
        held, rest = cut.valid, origin(path, cells.lines, cut.valid_rows)
    kept = [coding_of(cells.names[i], column.coding) for i, column in columns.items() if column.names]
    reading = {
        "kind": "table",
        "file": path.name,
        "target": name,
        "columns": kept,
        "classes": decided.classes,
    }
    return Loaded(
        cut.train, held, decided.task, names, decided.classes, name, told, (first, rest), doubts, reading
    )


def _second(
    path: Path,
    read: Read,
    first: Path,
    names: list[str],
    goal: int,
    columns: dict[int, Column],
    like: targets.Decided,
    decimal: str | None,
) -> tuple[Pair, Rows]:
    """Inputs and target of the file of the validation examples, coded as the training file's, and its lines.

    Raises:
        DataError: a column is missing, or a class or category that the training file does not hold.
    """
    told: list[str] = []  # the decisions are those of the training file, and have been told
    cells = aligned(read(path, names[goal]), path, first, names)
    cells = _with_target(cells, goal, path, told)
    name = names[goal]

    def unseen(row: int) -> str:
        return (
            f"{path.name} line {cells.lines[row]}, target {name!r}: class {cells.cells(goal)[row]!r} does "
            f"not occur in {first.name}, which holds {', '.join(like.classes[:10])}"
        )

    target = targets.coded(_target_values(cells, goal, decimal, path, first), like, unseen)
    _refuse_overflow(cells, {} if like.classes else {goal: target.numpy()}, path)
    blocks = [
        coded(column_for(cells, i, column.coding), column.coding, names[i], cells.lines, path, first)
        for i, column in columns.items()
    ]
    return (torch.from_numpy(np.concatenate(blocks, axis=1)), target), cells.lines


def _target_values(
    cells: Columns, goal: int, decimal: str | None, path: Path, first: Path
) -> npt.NDArray[Any]:
    """The target of the second file: texts, or numbers where the first file holds them.

    Raises:
        DataError: a text among numbers.
    """
    plain = cells.numbers(goal)
    if plain is not None and decimal == ".":
        return plain
    spelt = _cells_of(cells, goal, [])
    values = spelt if decimal is None else [number(cell, decimal) for cell in spelt]
    for row in (i for i, value in enumerate(values) if value is None):
        raise DataError(
            f"{path.name} line {cells.lines[row]}, target {cells.names[goal]!r}: {spelt[row]!r} is no "
            f"number, and {first.name} holds numbers there"
        )
    return np.array(values)


def column_for(cells: Columns, index: int, coding: Coding) -> list[str] | Numbers:
    """Column `index` as `coding` takes it: as numbers where it can, else as texts."""
    plain = cells.numbers(index)
    fits = plain is not None and takes_numbers(coding) and not np.isinf(plain).any()  # an overflow is told
    return plain if plain is not None and fits else _cells_of(cells, index, [])


def _refuse_overflow(cells: Columns, numbers: Mapping[int, Floats], path: Path) -> None:
    for i, values in numbers.items():
        refuse_overflow(values, functools.partial(cells.cells, i), cells.names[i], cells.lines, path)


def _target_index(cells: Columns, target: str | None, path: Path, told: list[str]) -> int:
    if target is None:
        told.append(f"no target named: the last column, {cells.names[-1]!r}, is taken")
        return len(cells.names) - 1
    if target not in cells.names:
        exact = [name for name in cells.names if name.lower() == target.lower()]
        hint = f"; did you mean {exact[0]!r}?" if exact else did_you_mean(target, cells.names[:30])
        headless = "; the file has no header row" if cells.names[0] == "column1" else ""
        raise DataError(f"{path.name}: no column {target!r}{hint}{headless}")
    return cells.names.index(target)


def _with_target(cells: Columns, goal: int, path: Path, told: list[str]) -> Columns:
    """The rows that have a target; in a column of numbers, what is no number is none."""
    name, plain = cells.names[goal], cells.numbers(goal)
    column = cells.cells(goal) if plain is None else []
    if plain is not None:
        keep = np.flatnonzero(~np.isnan(plain)).tolist()
    else:
        keep = [i for i, cell in enumerate(column) if not is_missing(cell)]
    if not keep:
        raise DataError(f"{path.name}: the target column {name!r} holds no value")
    if len(keep) < len(cells):
        told.append(f"{_counted(len(cells) - len(keep), 'row')} without a target and left out")
    odd = [i for i in keep if column and all(number(column[i], d) is None for d in (".", ","))]
    if 0 < len(odd) <= (1 - MOSTLY) * len(keep):
        told.append(
            f"target {name!r}: {_counted(len(odd), 'cell')} no number and left out with the row, the first "
            f"is {column[odd[0]]!r} in line {cells.lines[odd[0]]}"
        )
        keep = sorted(set(keep) - set(odd))
    return cells if len(keep) == len(cells) else cells.where(np.array(keep, dtype=np.int64))


def _cells_of(cells: Columns, index: int, told: list[str]) -> list[str]:
    """One column, without the commas that group its thousands."""
    column = cells.cells(index)
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


def _decide(cells: Columns, goal: int, told: list[str]) -> tuple[targets.Decided, str | None]:
    """What the target is, and what its decimals follow; None where it is text."""
    name, plain = cells.names[goal], cells.numbers(goal)
    if plain is not None:
        return targets.of_numbers(plain, name, floating=not bool(np.isfinite(plain).all())), "."
    values = _cells_of(cells, goal, told)
    for decimal in (".", ","):
        numbers = [number(value, decimal) for value in values]
        if None not in numbers:
            array = np.array(numbers, dtype=np.float64)
            return targets.of_numbers(array, name, floating=not bool(np.isfinite(array).all())), decimal
    _tell_sign(f"target {name!r}", values, told.append)
    return targets.of_text(values, name), None


def _column(name: str, table: Columns, index: int, told: list[str]) -> Column:
    tell, lines, plain = told.append, table.lines, table.numbers(index)
    if plain is not None and not np.isnan(plain).all():
        return _numeric(name, plain, tell)
    cells = _cells_of(table, index, told)
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
                    f"column {name!r}: {_counted(len(bad), 'cell')} no number and taken as missing, the "
                    f"first is {cells[bad[0]]!r} in line {lines[bad[0]]}"
                )
            array = np.array([np.nan if value is None else value for value in values])
            odd = tuple((int(lines[i]), cells[i]) for i in bad)
            return _numeric(name, array, tell, decimal)._replace(odd=odd)
    return _categorical(name, cells, tell)


def _plain(cells: list[str]) -> npt.NDArray[np.float64] | None:
    """A column of nothing but numbers, the usual case, in one pass."""
    try:
        array = np.array([float(cell) for cell in cells])
    except ValueError:
        return None
    # float() reads 1_000 as a number; and what spells "nan" in every row is an empty column.
    return None if np.isnan(array).all() or "_" in "".join(cells) else array


def _numeric(name: str, array: Numbers, tell: Callable[[str], None], decimal: str = ".") -> Column:
    with np.errstate(invalid="ignore"):  # two infinities below each other have no difference
        steps = np.diff(array)
    counter = name.lower() in {"id", "index", "unnamed: 0", "column1", "rownames", "row"}
    counter = counter and len(array) > 2 and array[0] in (0, 1)
    if counter and bool(np.all(steps == 1)):
        tell(f"column {name!r} only counts the rows and is left out")
        return Column([], np.empty((len(array), 0), np.float32))
    if len(array) > 1 and bool(np.all(array == array[0])):
        tell(f"column {name!r} is constant")
    with np.errstate(over="ignore"):
        return Column([name], array.astype(np.float32)[:, None], Coding("number", decimal))


def _categorical(name: str, cells: list[str], tell: Callable[[str], None]) -> Column:
    """One column of 0 and 1 for each level; one in all where there are two levels."""
    if sum(map(is_date, cells)) >= MOSTLY * sum(not is_missing(cell) for cell in cells):
        tell(f"column {name!r} holds dates and is left out; numbers made of them (days, months) can be used")
        return Column([], np.empty((len(cells), 0), np.float32))
    _tell_sign(f"column {name!r}", cells, tell)
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
    gaps = sum(map(is_missing, cells))
    if gaps:
        own = "its own" if gaps == 1 else "their own"
        tell(f"column {name!r}: {_counted(gaps, 'cell')} missing: a category of {own}")
    array = np.array(filled)
    return Column(
        [f"{name}={level}" for level in used],
        np.stack([(array == level).astype(np.float32) for level in used], axis=1),
        Coding("levels", levels=tuple(levels), used=tuple(used)),
    )


def _tell_sign(what: str, cells: list[str], tell: Callable[[str], None]) -> None:
    present = [cell for cell in cells if not is_missing(cell)]
    for sign in "%$€£":
        bare = [cell.replace(sign, "").replace(",", "").strip() for cell in present if sign in cell]
        if bare and sum(number(cell) is not None for cell in bare) >= MOSTLY * len(present):
            tell(f"{what} looks like numbers with {sign!r}; remove the sign to have it as a number")


def _counted(count: int, what: str) -> str:
    return f"1 {what} is" if count == 1 else f"{count} {what}s are"


def _tell_gaps(inputs: torch.Tensor, names: list[str], told: list[str]) -> None:
    gaps = inputs.isnan().sum(0)
    where = [(names[i], int(gaps[i])) for i in gaps.nonzero().flatten()]
    if where:
        listed = ", ".join(f"{name!r} {count}" for name, count in where[:5])
        more = f" and {len(where) - 5} columns more" if len(where) > 5 else ""
        told.append(f"{KEPT}: {listed}{more}")
