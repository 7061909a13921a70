"""The table of a search while it runs: the best so far, and how far the running trials are."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from downslope.reporting.live_table import LiveTable

if TYPE_CHECKING:
    from rich.console import RenderableType

    from downslope.tuning.standing import Standing

SHOWN = 8
"""Rows of the table."""
LATEST = 3
"""Rows of trials under way: those that were heard of last."""
EVERY = 0.25
"""Seconds between two pictures on a terminal."""
LINES = 10.0
"""Seconds between two lines elsewhere; the best so far is also told when it changes."""


class Live(LiveTable):
    """Shows a `Standing` on standard error: a table on a terminal, a line now and then elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self._last = 0.0
        self._best: int | None = None
        self._ended = -1

    def __call__(self, standing: Standing) -> None:
        """Show it, if it is time."""
        now = time.monotonic()
        if self.picture is not None:
            if now - self._last >= EVERY or standing.phase == "done":
                self._last = now
                self.picture.update(_table(standing), refresh=True)
            return
        best = standing.best
        better = best is not None and best.number != self._best
        if standing.ended == self._ended or not (better or now - self._last >= LINES):
            return
        self._last, self._ended = now, standing.ended
        self._best = None if best is None else best.number
        sys.stderr.write(_line(standing) + "\n")
        sys.stderr.flush()


def _line(standing: Standing) -> str:
    from downslope.tuning.told import configuration

    best, most = standing.best, standing.plan.trials
    said = f"tune {standing.ended}{'' if most is None else f'/{most}'} trials, {standing.seconds:.1f} s"
    if standing.phase == "confirming":
        said += ", confirming the best with fresh seeds"
    if best is None or best.value is None:
        return said
    return f"{said}, best {standing.plan.measure} {best.value:.4g} at {configuration(best.values)}"


def _table(standing: Standing) -> RenderableType:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from downslope.tuning.confirmed import foremost
    from downslope.tuning.told import number

    plan = standing.plan
    table = Table(box=None, pad_edge=False)
    for name in ("trial", plan.measure, *plan.space, ""):
        table.add_column(name, justify="right")

    def cells(values: Mapping[str, Any]) -> list[str]:
        return [number(values[key]) if key in values else "" for key in plan.space]

    for place, each in enumerate(foremost(standing.trials, plan.direction, SHOWN)):
        style = "bold green" if place == 0 else None
        table.add_row(str(each.number), f"{each.value:.4g}", *cells(each.values), style=style)
    known = {each.number: each.values for each in standing.trials}
    for at, (step, value) in list(reversed(standing.running.items()))[:LATEST]:
        seen = "" if math.isnan(value) else f"{value:.4g}"
        table.add_row(str(at), seen, *cells(known.get(at, {})), f"step {step}" if step else "", style="dim")
    return Group(Text(_head(standing)), table)


def _head(standing: Standing) -> str:
    most = standing.plan.trials
    of = "" if most is None else f"/{most}"
    limit = "" if standing.plan.seconds is None else f" of {standing.plan.seconds:.0f}"
    doing = (
        "confirming with fresh seeds"
        if standing.phase == "confirming"
        else f"{len(standing.running)} under way"
    )
    return (
        f"tune  {standing.ended}{of} trials, {doing}, {standing.steps} steps, {standing.seconds:.1f}{limit} s"
    )
