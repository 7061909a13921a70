"""Exit statuses, and every error as one line.

0    done, and healthy where a diagnosis was made
1    not healthy: diagnosed with a warning or worse, learnt nothing, or the cause could not be judged
2    unusable input: one line on standard error says what to do
70   a fault of Downslope itself
130  interrupted; what was done is kept
"""

from __future__ import annotations

import os
import sys
import sysconfig
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from downslope.core.errors import DownslopeError
from downslope.core.faces import imported

DONE, SICK, UNUSABLE, FAULT, INTERRUPTED = 0, 1, 2, 70, 130

_own = False
_OURS = Path(__file__).resolve().parents[1]
_EXAMPLES = Path(__file__).resolve().parent / "examples"


def guarded(action: Callable[[], int], *, debug: bool = False, torch: bool = True) -> int:
    """The exit status of `action`; an error becomes one line on standard error.

    Args:
        action: What a verb does; returns its status.
        debug: Let errors through, with their traceback.
        torch: Whether it needs torch, which is then loaded as fast as it can be.
    """
    try:
        if torch:
            imported("torch", for_good=_own)
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
        if isinstance(error, OSError) and (refused := unheard(error)):
            complain(refused)
            return UNUSABLE
        if debug:
            traceback.print_exc()
        place = _users_line(error)
        if place is None:
            complain(f"{_said(error)}: a fault of Downslope itself; --debug shows the traceback")
            return FAULT
        complain(f"{place}: {_said(error)} (--debug shows the traceback)")
        return UNUSABLE


def own_process() -> None:
    """Say that this process runs one command and ends."""
    global _own  # noqa: PLW0603
    _own = True


def complain(text: str) -> None:
    """One line on standard error, whatever `text` holds."""
    line = " ".join(text.split())
    if sys.stderr.closed:
        return
    try:
        print(f"downslope: {line}", file=sys.stderr)
    except OSError:  # a full disk behind standard error: nobody is left to tell
        _silence(sys.stderr)


def open_streams() -> None:
    """Streams that were closed before the start lead nowhere, instead of being no streams."""
    for name, number in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            if nowhere != number:
                os.dup2(nowhere, number)
            setattr(sys, name, open(number, "w", encoding="utf-8", closefd=False))  # noqa: SIM115 - for good


def unheard(error: OSError | None = None) -> str | None:
    """Which standard stream refuses what was written, and why; None where both take it.

    One that refuses leads nowhere from then on: leaving must not fail on it again. A pipe whose reader has
    gone is no error.

    Args:
        error: What was raised; taken for a stream's where it came from a line that speaks.
    """
    refused = None
    if error is not None and not isinstance(error, BrokenPipeError) and _speaking(error):
        _silence(sys.stdout)
        refused = f"standard output cannot be written: {error.strerror or error}"
    for name, stream in (("error", sys.stderr), ("output", sys.stdout)):
        if stream.closed:  # by a watched script, which owns them
            continue
        try:
            stream.flush()
        except OSError as failure:
            _silence(stream)
            if not isinstance(failure, BrokenPipeError):
                refused = f"standard {name} cannot be written: {failure.strerror or failure}"
    return refused


def _speaking(error: OSError) -> bool:
    """Whether the innermost frame of `error` writes to a standard stream and to no file."""
    files = [Path(frame.f_code.co_filename) for frame, _ in traceback.walk_tb(error.__traceback__)]
    last = files[-1] if files else Path()
    ours = last.is_relative_to(_OURS) and (last.parent.name, last.name) in _SPEAKING
    return error.filename is None and (ours or any(part in ("typer", "click", "rich") for part in last.parts))


_SPEAKING = (
    ("cli", "main.py"), ("cli", "voice.py"), ("cli", "guard.py"), ("cli", "streams.py"),
    ("reporting", "rows.py"),
)  # fmt: skip


def _silence(stream: TextIO) -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())


def _place_of_cause(error: DownslopeError) -> str:
    """Where in the user's own code an error began, or the refused call stands, unless the message says so."""
    place = _asked_by(error) if error.__cause__ is None else _users_line(error.__cause__)
    if place is None or place.rpartition(", ")[2] in str(error):
        return ""
    return f" ({place})"


def _asked_by(error: DownslopeError) -> str | None:
    """File and line of the user's code that called what refuses; what it raises itself says enough."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return None if not frames or _is_users(frames[-1].f_code.co_filename) else _users_line(error)


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
    _silence(sys.stdout)
    return DONE
