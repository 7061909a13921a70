"""What a learning-rate range test found: a range with its uncertainty, or why there is none."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Row:
    """What one rate came to."""

    lr: float
    loss: float
    """Mean over the seeds of the batch loss over the last quarter of the steps; NaN where none was finite."""
    gain: float
    """Share of the loss of the same batches without training that it took off, mean over the seeds."""
    stderr: float
    """Standard error of `gain`; NaN for a single seed."""
    stable: bool
    """Whether the loss stood finite and no higher than without training, from every seed."""
    gains: tuple[float, ...] = field(repr=False)


@dataclass(frozen=True)
class RateRange:
    """What `lr_range` found.

    Attributes:
        low: Smallest rate of the range: its gain is at least 0.8 of the best's; None where it refused.
        high: Largest such rate.
        suggested: The rate of the largest gain.
        interval: Rates that cannot be told from it: paired 95 % intervals of their differences hold 0.
        limit: Largest stable and smallest unstable rate; None where none was unstable.
        reason: Why it refused; None where it answers.
        table: What each rate came to, in ascending order.
        steps: Of each run.
        seeds: Of each rate.
        seconds: Of the whole test.
        baseline: Loss of the same batches without training.
    """

    low: float | None
    high: float | None
    suggested: float | None
    interval: tuple[float, float] | None
    limit: tuple[float, float] | None
    reason: str | None
    table: tuple[Row, ...]
    steps: int
    seeds: tuple[int, ...]
    seconds: float
    baseline: float

    @property
    def refused(self) -> bool:
        """Whether there is no answer; `reason` says why."""
        return self.reason is not None

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        names = ("low", "high", "suggested", "interval", "limit", "refused", "reason", "steps", "seeds")
        rows = [
            {name: getattr(row, name) for name in ("lr", "loss", "gain", "stderr", "stable")}
            for row in self.table
        ]
        plain = {name: getattr(self, name) for name in (*names, "seconds", "baseline")}
        return plain | {"table": rows}

    def lines(self) -> list[str]:
        """The table and the answer, as text."""
        made = [f"{'lr':>9} {'loss':>10} {'taken off':>10} {'stderr':>8}"] if self.table else []
        for row in self.table:
            mark = "" if row.stable else "  not stable"
            mark += "  <- best" if row.lr == self.suggested else ""
            gain = f"{row.gain:.3f}" if row.gain > -10 else "-"
            error = f"{row.stderr:.3f}" if row.gain > -10 else "-"
            made.append(f"{row.lr:>9.3g} {row.loss:>10.4g} {gain:>10} {error:>8}{mark}")
        return [*made, str(self)]

    def __str__(self) -> str:
        spent = (
            f"{len(self.table)} rates x {len(self.seeds)} seeds x {self.steps} steps, {self.seconds:.1f} s"
        )
        if self.reason is not None:
            return f"no learning rate: {self.reason} ({spent})"
        a, b = self.interval or (math.nan, math.nan)
        edge = "" if self.limit is None else f"; stable up to {self.limit[0]:.3g}, not at {self.limit[1]:.3g}"
        return (
            f"learning rate {self.low:.2g} to {self.high:.2g}, best {self.suggested:.2g} "
            f"(95 %: {a:.2g} to {b:.2g}){edge} ({spent})"
        )
