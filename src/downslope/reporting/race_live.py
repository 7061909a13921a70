"""A race while it runs: its table on a terminal, a line for every stage elsewhere, on standard error."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from downslope.reporting.live_table import LiveTable

if TYPE_CHECKING:
    from downslope.racing.result import Race


class Live(LiveTable):
    """Shows the race so far.

    Args:
        shown: False shows nothing.
    """

    def __init__(self, shown: bool) -> None:
        super().__init__(shown)
        self._told: dict[str, str] = {}
        self._table = ""

    def __call__(self, race: Race) -> None:
        """Show what is new."""
        if not self.shown:
            return
        if self.picture is not None:
            self._table = race.table()
            self.going("")
            return
        from downslope.racing.told import stage

        for key, line in stage(race).items():
            if self._told.get(key) != line:
                self._told[key] = line
                sys.stderr.write(line + "\n")
        sys.stderr.flush()

    def going(self, what: str) -> None:
        """Show what is in work; only on a terminal, elsewhere bars tell of it."""
        if self.picture is None:
            return
        from rich.text import Text

        parts = [each for each in (what and f"now     {what}", self._table) if each]
        self.picture.update(Text("\n".join(parts), no_wrap=True, overflow="ellipsis"), refresh=True)
