"""Exit statuses, and every error as one line.

0    done, and healthy where a diagnosis was made
1    diagnosed with a warning or worse
2    unusable input: one line on standard error says what to do
70   a fault of Downslope itself
130  interrupted; what was done is kept
"""

from __future__ import annotations

import sys
import sysconfig
import traceback
from collections.abc import Callable
from pathlib import Path

from downslope.core.errors import DownslopeError

DONE, SICK, UNUSABLE, FAULT, INTERRUPTED = 0, 1, 2, 70, 130

_OURS = Path(__file__).resolve().parents[1]
_EXAMPLES = Path(__file__).resolve().parent / "examples"


def guarded(action: Callable[[], int], *, debug: bool = False) -> int:
    """The exit status of `action`; an error becomes one line on standard error.

    Args:
        action: What a verb does; returns its status.
        debug: Let errors through, with their traceback.
    """
    try:
        return action()
    except KeyboardInterrupt:
        complain("interrupted; only what was written by then is kept")
        return INTERRUPTED
    except DownslopeError as error:
        if debug:
            traceback.print_exc()
        complain(str(error) + _place_of_cause(error))
        return UNUSABLE
    except BrokenPipeError:
        return _hung_up()
    except Exception as error:  # noqa: BLE001 - what a user's code raises is of any kind, and is told in one line
        if debug:
            traceback.print_exc()
        place = _users_line(error)
        if place is None:
            complain(f"{_said(error)}: a fault of Downslope itself; --debug shows the traceback")
            return FAULT
        complain(f"{place}: {_said(error)} (--debug shows the traceback)")
        return UNUSABLE


def complain(text: str) -> None:
    """One line on standard error, whatever `text` holds."""
    line = " ".join(text.split())
    print(f"downslope: {line}", file=sys.stderr)


def _place_of_cause(error: DownslopeError) -> str:
    """Where in the user's own code an error began, unless its message says so."""
    place = None if error.__cause__ is None else _users_line(error.__cause__)
    if place is None or place.rpartition(", ")[2] in str(error):
        return ""
    return f" ({place})"


def _said(error: Exception) -> str:
    text = " ".join(str(error).split())
    name = type(error).__name__
    return f"{name}: {text}" if text else name


def _users_line(error: BaseException) -> str | None:
    """File and line of the innermost frame that is the user's own code; None where no frame is."""
    found = None
    if isinstance(error, SyntaxError) and error.filename and _is_users(error.filename):
        return f"{_short(error.filename)}, line {error.lineno}"
    for frame, line in traceback.walk_tb(error.__traceback__):
        if _is_users(frame.f_code.co_filename):
            found = f"{_short(frame.f_code.co_filename)}, line {line}"
    return found


def _is_users(name: str) -> bool:
    if name.startswith("<"):
        return False
    path = Path(name).resolve()
    if path.is_relative_to(_EXAMPLES):
        return True
    libraries = {Path(sysconfig.get_path(kind)).resolve() for kind in ("stdlib", "purelib", "platlib")}
    return not any(path.is_relative_to(each) for each in (_OURS, *libraries)) and path.exists()


def _short(name: str) -> str:
    path = Path(name).resolve()
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _hung_up() -> int:
    """The reader of a pipe has gone: nothing more can be said, and that is no error."""
    import os

    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    return DONE
