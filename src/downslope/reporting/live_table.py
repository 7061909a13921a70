"""A table on standard error that is drawn anew in place, where that is a terminal."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any, Self


class LiveTable:
    """What shows something while it goes on: ``picture`` is rich's, None where there is no terminal.

    Args:
        shown: False shows nothing.
    """

    def __init__(self, shown: bool = True) -> None:
        self.shown = shown
        self.picture: Any = None

    def __enter__(self) -> Self:
        if self.shown and sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            self.picture = Live(console=Console(stderr=True), auto_refresh=False, transient=True)
            self.picture.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.picture is not None:
            self.picture.stop()
