"""Every exception that Downslope raises on purpose.

    DownslopeError
    ├── InputError (also a ValueError)      what the user gave cannot be used; exit status 2
    │   ├── UnknownNameError                a name that no table holds; the nearest ones are told
    │   ├── DataError                       empty, mis-shaped, non-finite or unreadable data
    │   ├── ObjectiveError                  the objective does not give one finite-typed scalar
    │   ├── ModelError                      the factory fails, or the model has nothing to train
    │   ├── RecipeError                     a hyper-parameter outside its domain, a misspelt key
    │   ├── WeightsError                    weights that cannot be read, or that fit nothing of the model
    │   ├── EditError                       an edit that does not fit the problem or recipe
    │   ├── SpaceError                      a range of a search that is empty, or a key that nothing has
    │   ├── ClusterError                    a cluster that cannot be joined, or has no room
    │   └── TaskError                       a task that cannot be found, imported or called
    ├── RunFolderError                      a Run folder that is missing, broken or of another version
    ├── StorageError                        where a search is kept is locked, gone, full or of another search
    └── NonFiniteError                      training left the finite numbers and was told to raise

A message says what was given, what is allowed, why, and what to do, in one line.
"""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path

_STANDARD = Path(sysconfig.get_path("stdlib"))


class DownslopeError(Exception):
    """Root of the tree above. Its message is one line, meant for the user."""


class InputError(DownslopeError, ValueError):
    """Something the user gave cannot be used as it is."""


class UnknownNameError(InputError):
    """A name that no table holds."""


class DataError(InputError):
    """Data that is empty, mis-shaped, non-finite or unreadable."""


class ObjectiveError(InputError):
    """An objective that does not give one scalar for a batch."""


class ModelError(InputError):
    """A model factory that fails, or a model with nothing to train."""


class RecipeError(InputError):
    """A hyper-parameter outside its domain, or a key that no recipe has."""


class UnwrittenError(RecipeError):
    """A recipe whose file cannot be written."""


class WeightsError(InputError):
    """Weights that cannot be read, or that fit nothing of the model."""


class EditError(InputError):
    """An edit that does not fit the problem or the recipe it is applied to."""


class SpaceError(InputError):
    """A space of a search that cannot be searched: a range that is none, or a key that nothing has."""


class ClusterError(InputError):
    """A cluster that cannot be joined: nobody answers, other versions, no room, something not installed."""


class TaskError(InputError):
    """A task that cannot be found, imported or called."""


class RunFolderError(DownslopeError):
    """A Run folder that is missing, broken or written by another version."""


class StorageError(DownslopeError):
    """Where a search is kept cannot be used: locked, gone, full, of another search, or no such place."""


class NonFiniteError(DownslopeError):
    """Training left the finite numbers and had been told to raise."""


def told(error: BaseException, path: Path | None = None) -> str:
    """One line for an error in somebody's code: type, message, file and line.

    Args:
        error: What was raised.
        path: The file whose line is told; left out, that of the innermost frame outside of libraries.
    """
    frames = traceback.extract_tb(error.__traceback__)
    own = [each for each in frames if _theirs(each.filename) and path in (None, Path(each.filename))]
    text = (str(error).strip().splitlines() or ["no message"])[0]
    where = f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        text, where = error.msg, f" ({Path(error.filename).name}, line {error.lineno})"
    return f"{type(error).__name__}: {text}{where}"


def _theirs(filename: str) -> bool:
    """Whether a frame is of the user's code: neither Python's, nor an installed package's, nor ours."""
    path = Path(filename)
    if filename.startswith("<frozen") or "site-packages" in path.parts:
        return False
    return not any(path.is_relative_to(each) for each in (Path(__file__).parents[1], _STANDARD))
