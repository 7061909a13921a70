"""Whether somebody writes a file right now: a lock that the system takes back when its holder dies.

A run whose head says "running" is either going on or was killed; only the lock on its history tells which.
"""

from __future__ import annotations

from pathlib import Path
from typing import TextIO

try:
    import fcntl
except ImportError:  # a system without them: what is not known is taken for going on
    fcntl = None


def hold(file: TextIO, *, shared: bool = False) -> None:
    """Lock `file` for as long as it is open; where the file system has no locks nothing happens.

    Args:
        file: Open.
        shared: Whether others may hold it too, who say the same.
    """
    _try(file, shared)


def held(path: Path) -> bool:
    """Whether a living process (this one too) holds `path`; True where that cannot be told."""
    try:
        with path.open(encoding="utf-8") as file:
            return not _try(file)
    except OSError:
        return False


def _try(file: TextIO, shared: bool = False) -> bool:
    if fcntl is None:
        return False
    try:
        fcntl.flock(file.fileno(), (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
