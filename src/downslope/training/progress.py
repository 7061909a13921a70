"""How a run shows that it goes on: a bar in a terminal, plain lines elsewhere, always on standard error."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any, Self

BAR_SECONDS = 0.1
LINE_SECONDS = 10.0


class Progress:
    """Steps done, steps a second, time left, and the latest numbers.

    Args:
        label: What is running.
        total: Steps of the whole run; None where they cannot be known.
        shown: False shows nothing.
        done: Steps already done, for a resumed run.
        unit: What is counted.
        brief: Whether nothing is left to be read of what took less time than a line is worth.
    """

    def __init__(
        self,
        label: str,
        total: int | None,
        *,
        shown: bool = True,
        done: int = 0,
        unit: str = "steps",
        brief: bool = False,
    ) -> None:
        self.unit, self.brief = unit, brief
        self.label, self.total, self.first = label, total, done
        self.shown = shown
        self.bar: Any = None
        self._task: Any = None
        self._last: tuple[int, str] | None = None
        self._started = self._told = time.monotonic()

    def __enter__(self) -> Self:
        if self.shown and sys.stderr.isatty():
            from rich import progress as rich_progress
            from rich.console import Console

            self.bar = rich_progress.Progress(
                rich_progress.TextColumn("{task.description}"),
                rich_progress.BarColumn(bar_width=24),
                rich_progress.MofNCompleteColumn(),
                rich_progress.TextColumn("{task.fields[rate]}"),
                rich_progress.TimeRemainingColumn(elapsed_when_finished=True),
                rich_progress.TextColumn("{task.fields[numbers]}"),
                console=Console(stderr=True),
                transient=True,
                auto_refresh=False,
            )
            self.bar.start()
            self._task = self.bar.add_task(
                self.label, total=self.total, completed=self.first, rate="", numbers=""
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.stop()
        elif self.shown and self._last is not None and not self.brief:
            self._line(*self._last)

    def update(self, step: int, numbers: str = "") -> None:
        """Tell how far it is; cheap enough for every step, drawn ten times a second at most."""
        if not self.shown:
            return
        self._last = step, numbers
        now = time.monotonic()
        if now - self._told < (BAR_SECONDS if self.bar is not None else LINE_SECONDS):
            return
        self._told = now
        if self.bar is None:
            self._line(step, numbers)
            return
        rate = (step - self.first) / max(now - self._started, 1e-9)
        fields = {"rate": self._rate(rate) if rate else ""} | ({"numbers": numbers} if numbers else {})
        self.bar.update(self._task, completed=step, refresh=True, **fields)

    def note(self, numbers: str) -> None:
        """Tell what goes on between two steps; what the latest step said stays to be read."""
        former = self._last
        self.update(self.first if former is None else former[0], numbers)
        self._last = former

    def _line(self, step: int, numbers: str) -> None:
        """One plain line."""
        rate = (step - self.first) / max(time.monotonic() - self._started, 1e-9)
        of = f"/{self.total}" if self.total else ""
        more = self.total is not None and step < self.total and rate > 0
        left = f", {((self.total or 0) - step) / rate:.0f} s left" if more else ""
        pace = f", {self._rate(rate)}{left} " if rate else ", "  # before the first is done there is none
        sys.stderr.write(f"{self.label} {step}{of} {self.unit}{pace}{numbers}".rstrip(", ") + "\n")
        sys.stderr.flush()

    def _rate(self, rate: float) -> str:
        return f"{rate:.0f} {self.unit}/s" if rate >= 10 else f"{rate:.2g} {self.unit}/s"
