"""Standard streams beside a watched script, which may close them or put others in their place."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, TextIO


class Streams:
    """The standard streams as they are before a script runs.

    Args:
        document: Whether standard output is to take a document after the script.

    Attributes:
        lost: Why standard output takes nothing any more; "" while it does.
    """

    def __init__(self, *, document: bool) -> None:
        self.lost = ""
        self._document = document
        self._own: dict[str, TextIO] = {"stdout": sys.stdout, "stderr": sys.stderr}
        self._copies = {"stdout": _copy(1) if document else None, "stderr": _copy(2)}
        self._last = _followed(sys.stdout) if document else None

    @contextmanager
    def speaking(self, *, apart: bool = False) -> Generator[None]:
        """A block in which the standard streams are those from before; the script gets its own back.

        Args:
            apart: Past the buffer of standard output: what the script left in there must stay in there.
        """
        theirs = sys.stdout, sys.stderr
        opened = self._open("stderr")
        if self._document:
            if not apart:
                with contextlib.suppress(Exception):  # it may be of the script's own making
                    theirs[0].flush()
            sys.stdout = self._open("stdout", apart=apart)
        sys.stderr = opened
        try:
            yield
        finally:
            sys.stdout, sys.stderr = theirs

    def end_line(self) -> None:
        """End a line that the script left open."""
        if self._last is not None and self._last() != "\n":
            print(flush=True)

    def _open(self, name: str, *, apart: bool = False) -> TextIO:
        own, copy = self._own[name], self._copies[name]
        if not own.closed and not apart:
            return own
        if copy is None:
            if name == "stdout":
                self.lost = "standard output was closed by the script"
            copy = os.open(os.devnull, os.O_WRONLY)
        return open(copy, "w", buffering=1, encoding="utf-8", closefd=False)


def _copy(number: int) -> int | None:
    try:
        return os.dup(number)
    except OSError:
        return None


def _followed(stream: Any) -> Callable[[], str]:
    """Follow what is written to a text stream; what is returned gives its last character."""
    write, last = stream.write, ["\n"]

    def followed(text: str) -> Any:
        written = write(text)
        last[0] = text[-1:] or last[0]
        return written

    stream.write = followed
    return lambda: last[0]
