"""CSV: a text table to tensors, with the type of every column inferred from its cells and told."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from downslope.core.errors import DataError
from downslope.core.names import did_you_mean
from downslope.core.sources import Origin
from downslope.data import target as targets
from downslope.data.columns import Columns, Numbers, Rows
from downslope.data.csv_columns import Column, column_of, counted
from downslope.data.csv_large import read_columns
from downslope.data.csv_second import (
    Coding,
    Floats,
    aligned,
    coded,
    coding_of,
    refuse_overflow,
    takes_numbers,
)  # fmt: skip
from downslope.data.csv_text import is_missing
from downslope.data.split import parts
from downslope.data.table import Loaded, Pair
from downslope.data.written import Written, form_of, left_as_text

MOST_TOLD = 12
"""Columns of which the same is said one by one; of more it is said once."""

KEPT = "missing values are kept as NaN"

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
    decided, form = _decide(cells, goal, told)
    told.append(decided.told)
    _check_classes(decided, path, cells, goal)
    said: list[str] = []
    columns = {i: column_of(cells, i, said.append) for i in range(len(cells.names)) if i != goal}
    told += _together(said)
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
        held, lines = _second(valid, read, path, cells.names, goal, columns, decided, form)
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
    form: Written | None,
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

    target = targets.coded(_target_values(cells, goal, form, path, first), like, unseen)
    _refuse_overflow(cells, {} if like.classes else {goal: target.numpy()}, path)
    blocks = [
        coded(column_for(cells, i, column.coding), column.coding, names[i], cells.lines, path, first)
        for i, column in columns.items()
    ]
    return (torch.from_numpy(np.concatenate(blocks, axis=1)), target), cells.lines


def _target_values(
    cells: Columns, goal: int, form: Written | None, path: Path, first: Path
) -> npt.NDArray[Any]:
    """The target of the second file: texts, or numbers where the first file holds them.

    Raises:
        DataError: a text among numbers.
    """
    plain = cells.numbers(goal)
    if plain is not None and form is not None and form.plain:
        return plain
    spelt = cells.cells(goal) if form is None else _spelt(cells, goal, form)
    values = spelt if form is None else [form.read(cell) for cell in spelt]
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
    return plain if plain is not None and fits else _spelt(cells, index, coding.form)


def _spelt(cells: Columns, index: int, form: Written) -> list[str]:
    """Cells to be read in `form`; of thousands that are grouped here alone, the commas are taken out."""
    column = cells.cells(index)
    grouped = form == form._replace(decimal=".", group="") and any("," in cell for cell in column)
    if not grouped or form_of(column, cells.delimiter) != form._replace(group=","):
        return column
    return [cell.replace(",", "") for cell in column]


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
        told.append(f"{counted(len(cells) - len(keep), 'row')} without a target and left out")
    form = form_of([column[i] for i in keep], cells.delimiter) if column else None
    odd = [i for i in keep if form is not None and form.read(column[i]) is None]
    if odd:
        told.append(
            f"target {name!r}: {counted(len(odd), 'cell')} no number and left out with the row, the first "
            f"is {column[odd[0]]!r} in line {cells.lines[odd[0]]}"
        )
        keep = sorted(set(keep) - set(odd))
    return cells if len(keep) == len(cells) else cells.where(np.array(keep, dtype=np.int64))


def _check_classes(decided: targets.Decided, path: Path, cells: Columns, goal: int) -> None:
    """Refuse a target that only names its rows."""
    count, name = len(decided.classes), cells.names[goal]
    if count > targets.MOST_CLASSES and 2 * count > len(cells):
        hint = left_as_text(cells.cells(goal))
        reason = "no class recurs often enough to be learnt; take another column as the target"
        raise DataError(
            f"{path.name}: target {name!r} is text with {count} different values in {len(cells)} rows: "
            + (reason if hint is None else f"it {hint}")
        )


def _decide(cells: Columns, goal: int, told: list[str]) -> tuple[targets.Decided, Written | None]:
    """What the target is, and how its numbers are written; None where it is text."""
    name, plain = cells.names[goal], cells.numbers(goal)
    if plain is not None:
        return targets.of_numbers(plain, name, floating=not bool(np.isfinite(plain).all())), Written()
    values = cells.cells(goal)
    form = form_of(values, cells.delimiter)
    if form is None:
        hint = left_as_text(values)
        if hint is not None:
            told.append(f"target {name!r} {hint}")
        return targets.of_text(values, name), None
    if not form.plain:
        told.append(f"target {name!r} {form.said(values)}")
    array = np.array([form.read(value) for value in values], dtype=np.float64)
    return targets.of_numbers(array, name, floating=not bool(np.isfinite(array).all())), form


def _together(said: list[str]) -> list[str]:
    """What is said of columns, in one line where the same is said of many."""
    alike: dict[str, list[str]] = {}
    for line in said:
        alike.setdefault(re.sub(r"^column ('.*?'|\".*?\") ", "", line).partition(": '")[0], []).append(line)
    return [
        line if len(lines) <= MOST_TOLD else f"{line} (the first of {len(lines)} columns)"
        for lines in alike.values()
        for line in (lines if len(lines) <= MOST_TOLD else lines[:1])
    ]


def _tell_gaps(inputs: torch.Tensor, names: list[str], told: list[str]) -> None:
    gaps = inputs.isnan().sum(0)
    where = [(names[i], int(gaps[i])) for i in gaps.nonzero().flatten()]
    if where:
        listed = ", ".join(f"{name!r} {count}" for name, count in where[:5])
        more = f" and {len(where) - 5} columns more" if len(where) > 5 else ""
        told.append(f"{KEPT}: {listed}{more}")
