"""A race while it runs: its table on a terminal, a line for every stage elsewhere, on standard error."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from downslope.racing.result import Race


class Live:
    """Shows the race so far.

    Args:
        shown: False shows nothing.
    """

    def __init__(self, shown: bool) -> None:
        self.shown = shown
        self.table = shown and sys.stderr.isatty()
        self._live: Any = None
        self._told: dict[str, str] = {}

    def __enter__(self) -> Self:
        if self.table:
            from rich.console import Console
            from rich.live import Live as Table

            self._live = Table(console=Console(stderr=True), auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, race: Race) -> None:
        """Show what is new."""
        if not self.shown:
            return
        if self._live is not None:
            from rich.text import Text

            self._live.update(Text(race.table(), no_wrap=True, overflow="ellipsis"), refresh=True)
            return
        from downslope.racing.told import stage

        for key, line in stage(race).items():
            if self._told.get(key) != line:
                self._told[key] = line
                sys.stderr.write(line + "\n")
        sys.stderr.flush()
