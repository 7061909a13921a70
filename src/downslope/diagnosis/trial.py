"""One remedy beside the untouched control: what each seed gave, and what came of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from downslope.core.edits import Edit
from downslope.core.plain import plain
from downslope.diagnosis.paired import NO_DIFFERENCE, Difference

Verdict = Literal["kept", "works, not kept", "not confirmed", "worse", "failed"]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One remedy beside the control.

    Attributes:
        edit: The remedy.
        before: What the control reached, one value a seed, in `measure`'s unit.
        after: What the remedy reached from the same seeds.
        seeds: These seeds; without one that chose the remedy among many, which proves nothing of it.
        gain: Paired difference, positive where the remedy is better; what is worse than a constant guess
            counts as one in it.
        verdict: What came of it.
        reason: Why, where that needs saying.
    """

    edit: Edit
    before: tuple[float, ...] = ()
    after: tuple[float, ...] = ()
    seeds: tuple[int, ...] = ()
    gain: Difference = NO_DIFFERENCE
    verdict: Verdict = "not confirmed"
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values only."""
        return plain(
            {
                "edit": self.edit.to_dict(), "text": str(self.edit), "before": self.before,
                "after": self.after, "seeds": self.seeds, "gain": self.gain._asdict(),
                "verdict": self.verdict, "reason": self.reason,
            }
        )  # fmt: skip

    def __str__(self) -> str:
        if not self.after:
            return f"{self.edit}   {self.verdict}: {self.reason}"
        before, after = mean(self.before), mean(self.after)
        low, high = sorted((self.gain.low, self.gain.high))
        interval = "" if math.isnan(low) else f", 95 % {low:.3g} to {high:.3g}"
        word = self.verdict.upper() if self.verdict == "kept" else self.verdict
        change = f"{'worse' if self.gain.mean < 0 else 'better'} by {abs(self.gain.mean):.3g}"
        why = f" ({self.reason})" if self.reason else ""
        return f"{self.edit}   {before:.4g} -> {after:.4g}  ({change}{interval})  {word}{why}"


def mean(values: Sequence[float]) -> float:
    """The mean; NaN of nothing."""
    return sum(values) / len(values) if values else math.nan
