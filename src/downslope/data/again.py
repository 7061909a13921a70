"""A second file read as the training file was, for predictions: the columns and categories are kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch

from downslope.core.errors import DataError
from downslope.data import idx_file, image_folder
from downslope.data.array_file import inputs_of
from downslope.data.csv_file import column_for
from downslope.data.csv_large import read_columns
from downslope.data.csv_second import aligned, coded, coding_from
from downslope.data.parquet_file import columns_of_parquet


class New(NamedTuple):
    """Examples without a target."""

    inputs: Any
    """A tensor, or several in a tuple or dict."""
    places: Sequence[str]
    """What stands for each in a table of predictions: its line, its row, its file."""
    unit: str
    """What `places` are: "line", "row" or "file"."""
    told: tuple[str, ...] = ()
    """What was left out, one sentence each."""


def read_again(path: str | Path, reading: Mapping[str, Any]) -> New:
    """The examples of a file, coded as those that a run was trained on.

    Args:
        path: of the kind of the training file; other columns than it had are left out, its target too.
        reading: what `Loaded.reading` said.

    Raises:
        DataError: unreadable, a column is missing, a category or a size that training did not have.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise DataError(f"{path}: no such file")
    readers: dict[str, Callable[[Path, Mapping[str, Any]], New]] = {
        "table": _table, "arrays": _arrays, "idx": _idx, "images": _images,
    }  # fmt: skip
    kind = str(reading.get("kind"))
    if kind not in readers and path.suffix.lower() in (".npz", ".pt", ".pth"):
        inputs = inputs_of(path, "x")
        return New(inputs, [str(i) for i in range(len(inputs))], "row")
    if kind not in readers:
        raise DataError(
            f"{path.name}: this run was not trained on a file, so nothing tells how to read one; give its "
            "inputs as an array x of an .npz or .pt file, or in Python as a tensor or an array"
        )
    found = readers[kind](path, reading)
    wanted = tuple(cast("list[int]", reading["example"][0])) if "example" in reading else None
    if wanted is not None and tuple(found.inputs.shape[1:]) != wanted:
        raise DataError(
            f"{path.name}: examples of shape {tuple(found.inputs.shape[1:])}, those of training have {wanted}"
        )
    return found


def _table(path: Path, reading: Mapping[str, Any]) -> New:
    columns = cast("list[dict[str, Any]]", reading["columns"])
    names = [str(each["name"]) for each in columns]
    first = Path(str(reading["file"]))
    parquet = path.suffix.lower() in (".parquet", ".pq")
    cells = columns_of_parquet(path) if parquet else read_columns(path, names[0])
    cells = aligned(cells, path, first, names)
    blocks: list[Any] = []
    for i, each in enumerate(columns):
        coding = coding_from(each)
        block = coded(column_for(cells, i, coding), coding, names[i], cells.lines, path, first)
        gaps = np.flatnonzero(np.isnan(block).any(1))
        if len(gaps) and not reading.get("filled"):
            raise DataError(
                f"{path.name} line {cells.lines[gaps[0]]}, column {names[i]!r}: is missing, and the model "
                "was trained without gaps; fill it in, leave the row out, or train with --set missing=mean"
            )
        blocks.append(block)
    return New(
        torch.from_numpy(np.concatenate(blocks, axis=1)), [str(line) for line in cells.lines.tolist()], "line"
    )


def _arrays(path: Path, reading: Mapping[str, Any]) -> New:
    inputs = inputs_of(path, str(reading["inputs"]))
    return New(inputs, [str(i) for i in range(len(inputs))], "row")


def _idx(path: Path, reading: Mapping[str, Any]) -> New:
    inputs = idx_file.images_of(idx_file.read_idx(path), float(reading["scale"]))
    return New(inputs, [str(i) for i in range(len(inputs))], "row")


def _images(path: Path, reading: Mapping[str, Any]) -> New:
    files = image_folder.files_below(path) if path.is_dir() else [path]
    form = image_folder.Form(*(int(reading[key]) for key in ("height", "width", "channels")))
    found = [image_folder.decoded(each, form) for each in files]
    good = [i for i, each in enumerate(found) if not isinstance(each, str)]
    faults = [f"{files[i].name} ({each})" for i, each in enumerate(found) if isinstance(each, str)]
    if not good:
        what = f": {faults[0]}" if faults else f"; endings that are known: {', '.join(image_folder.ENDINGS)}"
        raise DataError(f"{path}: no image that can be decoded{what}")
    told = () if not faults else (f"{len(faults)} left out, cannot be decoded: {', '.join(faults[:3])}",)
    pixels = np.stack([cast("Any", found[i]) for i in good]).astype(np.float32)
    root = path if path.is_dir() else path.parent
    return New(
        torch.from_numpy(pixels).div_(255.0), [str(files[i].relative_to(root)) for i in good], "file", told
    )
