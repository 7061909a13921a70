"""What a verb leaves behind: the JSON of a run, and the report."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from downslope.cli.guard import DONE, INTERRUPTED, SICK
from downslope.cli.voice import Voice
from downslope.core.errors import InputError, RecipeError, UnwrittenError

if TYPE_CHECKING:
    from downslope.core.edits import Edit
    from downslope.core.run import Run
    from downslope.diagnosis.diagnosis import Diagnosis
    from downslope.diagnosis.repair import Repair

Made = TypeVar("Made")

TRACKED = (
    "sharpness",
    "sharpness_residual",
    "stable_limit",
    "stability_ratio",
    "noise_scale",
    "noise_scale_error",
)
"""Columns of a run's history that tell of the ground under it."""


def run_document(run: Run, report: Path | None = None) -> dict[str, Any]:
    """A run for machines: how it ended, its summary, what was tracked of its ground, where it is kept."""
    tracked = {name: run.history.series(name) for name in TRACKED if name in run.history}
    ground: dict[str, Any] = {
        name: {"steps": each.steps.tolist(), "values": each.values.tolist()} for name, each in tracked.items()
    }
    if ground:
        ground["notes"] = run.facts.get("terrain", {}).get("notes", [])
    return {
        "status": run.status,
        "summary": run.summary,
        "folder": run.folder,
        **({"terrain": ground} if ground else {}),
        "recipe": None if run.recipe is None or run.recipe.coded else run.recipe.to_dict(),
        "report": report,
    }


def diagnosis_document(found: Diagnosis, report: Path | None = None) -> dict[str, Any]:
    """A diagnosis for machines: what `Diagnosis.to_dict` says, and the report's path."""
    return found.to_dict() | {"report": report}


def status_of(found: Diagnosis, *, interrupted: bool = False) -> int:
    """0 for a healthy run; 1 for one with a warning or worse, and for one that learns nothing unexplained.

    130 where Ctrl-C ended the verb: what it found by then is shown, but it is not the whole.
    """
    from downslope.reporting.verdict import unexplained

    if interrupted:
        return INTERRUPTED
    return DONE if found.healthy and not unexplained(found) else SICK


def repair_document(
    found: Repair, fixed: Path | None = None, report: Path | None = None, changes: Path | None = None
) -> dict[str, Any]:
    """A repair for machines: what `Repair.to_dict` says, and the paths that were written."""
    return found.to_dict() | {"fixed": fixed, "changes": changes, "report": report}


def save_fixed(found: Repair, path: Path, voice: Voice, earlier: Sequence[Edit] = ()) -> Path | None:
    """Write what was kept; None where nothing was, or where the optimizer is code that no file can hold.

    Edits that hold code are left out, and named in the file; `save_changes` writes them.

    Args:
        found: The repair.
        path: The file.
        voice: Says why a file is not written.
        earlier: Edits that the problem had before, from the recipe file that was given.

    Raises:
        InputError: the path cannot be written.
    """
    if found.kept is None:
        return None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return found.save(path, earlier)
    except UnwrittenError:
        raise
    except RecipeError as error:
        voice.note(f"{path} is not written: {error}")
        return None
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}") from None


def changes_path(path: Path) -> Path:
    """Where the code of a repair goes: beside its recipe file."""
    return path.with_name(f"{path.stem}_changes.py")


def save_changes(found: Repair, path: Path) -> Path | None:
    """Write the kept edits of the problem as code, beside the recipe file `path`; None where there are none.

    Raises:
        InputError: the path cannot be written.
    """
    if not found.in_code:
        return None
    beside = changes_path(path)
    try:
        beside.write_text(found.as_module(beside.stem), encoding="utf-8")
    except OSError as error:
        raise InputError(f"{beside} cannot be written: {error.strerror or error}") from None
    return beside


def check_writable(*paths: Path | None) -> None:
    """Refuse before the work what could not be written after it.

    Raises:
        InputError: a path that is a folder, or below a place that cannot be written.
    """
    for path in paths:
        if path is None:
            continue
        try:
            if path.is_dir():
                raise InputError(f"{path} is a folder: name a file in it, such as {path.name}/report.html")
            _try(path)
        except OSError as error:
            raise InputError(f"{path} cannot be written: {error.strerror or error}") from None


def _try(path: Path) -> None:
    """Write nothing where `path` would be written; what rights say is not enough, which let root do anything.

    Raises:
        OSError: it cannot be written.
    """
    if path.is_file():
        path.open("ab").close()
    elif path.exists():  # a device or a pipe, which opening would take part in
        if not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, "permission denied")
    else:
        place = Path(os.path.realpath(path)).parent
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=place, prefix=".downslope-"):
            pass


def save_report(path: Path, *things: Any) -> Path:
    """Write the report of `things` to `path`.

    Raises:
        InputError: the path cannot be written.
    """
    from downslope.reporting.report import report

    return report(*things).save(path)


def attempted(write: Callable[[], Made | None]) -> tuple[Made | None, InputError | None]:
    """What `write` gives, or why it failed: the result of long work is shown before that is told."""
    try:
        return write(), None
    except InputError as error:
        return None, error
