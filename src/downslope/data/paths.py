"""Data from a path: the kind of file decides how it is read, and what was inferred is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from downslope.core.errors import DataError
from downslope.data import idx_file, image_folder
from downslope.data.array_file import load_npz, load_pt
from downslope.data.csv_file import load_csv
from downslope.data.parquet_file import load_parquet
from downslope.data.table import Loaded, Streamed, Text
from downslope.data.text_file import is_running_text, load_text

Loader = Callable[..., Loaded | Streamed | Text]

_LOADERS: dict[str, Loader] = {
    ".csv": load_csv,
    ".tsv": load_csv,
    ".txt": load_csv,
    ".data": load_csv,
    ".dat": load_csv,
    ".npz": load_npz,
    ".pt": load_pt,
    ".pth": load_pt,
    ".parquet": load_parquet,
    ".pq": load_parquet,
    ".md": load_text,
    ".text": load_text,
}

ENDINGS = tuple(_LOADERS)
"""Of the files whose name says how they are read."""

_HINTS = {
    ".npy": "; save inputs and target with numpy.savez(path, X=X, y=y)",
    **dict.fromkeys(
        (".gz", ".zip", ".bz2", ".xz", ".zst", ".7z", ".tar", ".tgz", ".rar"), "; unpack it first"
    ),
    **dict.fromkeys(
        (".xlsx", ".xls", ".ods", ".json", ".jsonl", ".feather", ".arrow"), "; save the table as .csv"
    ),
}

_HEAD = 2**16


def load_path(
    path: str | Path, target: str | None = None, seed: int = 0, valid: float | str | Path = 0.2
) -> Loaded | Streamed | Text:
    """Inputs and targets from a file, split into a training and a validation part, or from two files.

    A text table may use any of the delimiters ``, ; tab |`` or blanks, have a header or not; columns of
    numbers stay as they are (missing values become NaN), columns of text become columns of 0 and 1. Text
    targets, and whole numbers with few values, are classes. An archive holds ``X`` and ``y``, or ``train_x``,
    ``train_y``, ``valid_x`` and ``valid_y``, and then brings its own split. Of an IDX file the partner is
    found by its name, and so is the pair of the held-out part. A .txt whose lines are no rows is running
    text, for next-token prediction. A folder holds images, a sub-folder for each class (`images`), or a pair
    of IDX files. Nothing in a file is executed.

    Args:
        path: .csv, .tsv, .txt, .md, .data, .dat, .parquet, .npz, .pt, .pth, an IDX file,
            packed or not, or a folder.
        target: the column, or the array, to predict; by default the last column, or ``y``.
        seed: of the split, which is stratified for classes; a text is split by position.
        valid: share held out, float in [0, 1); or a second file of the same kind, which holds the validation
            examples. Both are then used whole, and the second is read with the first's columns, categories
            and classes.

    Returns:
        The data, with every decision in `told`.

    Raises:
        DataError: no such file, an unknown kind, unreadable, empty, no such target (the nearest is named),
            or no usable input; one line.
    """
    column: Any = target
    if column is not None and not isinstance(column, str):
        raise DataError(
            f"target={column!r}: must be the name of one column; of several read the table yourself, and "
            "give (X, Y)"
        )
    path = Path(path).expanduser()
    path, loader = _found(path, target)
    if isinstance(valid, (str, Path)):
        valid, other = _found(Path(valid).expanduser(), target)
        if other is not loader:
            raise DataError(
                f"train {path.name} and valid {valid.name}: must be files of one kind, for the second is "
                "read as the first was; convert one of them"
            )
    return loader(path, target, seed=seed, valid=valid)


def _found(path: Path, target: str | None) -> tuple[Path, Loader]:
    """The file, or the one in the folder, and what reads it.

    Raises:
        DataError: no such file, or of a kind that nothing reads.
    """
    if path.is_dir():
        images = idx_file.in_folder(path)
        if images is not None:
            return images, idx_file.load_idx
        if image_folder.is_image_folder(path):
            return path, image_folder.load_folder
        raise DataError(
            f"{path} is a folder without IDX files, and without sub-folders of images, one for each class; "
            f"else a file is needed: {', '.join(_LOADERS)}"
        )
    if not path.exists():
        raise DataError(f"{path}: no such file")
    if path.suffix.lower() == ".txt" and target is None and _is_running(path):
        return path, load_text
    loader = _LOADERS.get(path.suffix.lower())
    if loader is None and idx_file.is_idx(path):
        loader = idx_file.load_idx
    if loader is None:
        hint = _HINTS.get(path.suffix.lower(), "")
        raise DataError(
            f"{path.name}: files ending in {path.suffix!r} are not known; known: {', '.join(_LOADERS)}, IDX "
            f"files{hint}"
        )
    return path, loader


def _is_running(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return is_running_text(file.read(_HEAD))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
