"""The folder of a kept run, as a command names it."""

from __future__ import annotations

from pathlib import Path

from downslope.core.errors import RunFolderError
from downslope.core.other_folder import held_instead

_TASKS = (
    ".py", ".csv", ".tsv", ".txt", ".data", ".dat", ".parquet", ".pq", ".npz", ".pt", ".pth", ".gz",
)  # fmt: skip


def check_kept(folder: Path, verb: str) -> None:
    """Refuse what is no folder of a run, and say what is near.

    Raises:
        RunFolderError: a file, a folder that holds runs or none, or nothing at all.
    """
    if (folder / "run.json").is_file():
        return
    if folder.is_file():
        if folder.name == "run.json":
            raise RunFolderError(f"{folder} is a file in the folder of a run: give {verb} the folder")
        makes = f"; downslope fit {folder} makes one" if folder.suffix in _TASKS else ""
        raise RunFolderError(f"{folder} is a file: {verb} takes the folder of a run{makes}")
    runs = sorted(folder.glob("*/run.json"), key=lambda each: each.stat().st_mtime) if folder.is_dir() else []
    if runs:
        raise RunFolderError(
            f"{folder}: no run there, but {len(runs)} in the folders below it; "
            f"the newest is {runs[-1].parent}"
        )
    missing = held_instead(folder) if folder.is_dir() else "there is no such folder"
    raise RunFolderError(f"{folder}: no run there ({missing})")
