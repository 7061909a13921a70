"""What an optimizer says of how it was made: once in a process, and not where it is made to be looked at."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Generator
from contextvars import ContextVar

__all__ = ["say_once", "unsaid"]

_log = logging.getLogger("downslope")
_unsaid: ContextVar[bool] = ContextVar("unsaid", default=False)


def say_once(note: str) -> None:
    """Logs a line as a warning, the first time that it comes."""
    if not _unsaid.get():
        _say(note)


@functools.cache
def _say(note: str) -> None:
    _log.warning(note)


@contextlib.contextmanager
def unsaid() -> Generator[None]:
    """Inside nothing is said, as of parameters that are thrown away."""
    before = _unsaid.set(True)
    try:
        yield
    finally:
        _unsaid.reset(before)
