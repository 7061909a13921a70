"""Numbers as people read them: durations and counts; `numeral` itself is core's, as diagnoses use it too."""

from __future__ import annotations

import math

from downslope.core.numerals import loss, numeral


def duration(seconds: float | None) -> str:
    """Seconds as "0.4 s", "31 s", "2 min 5 s", "1 h 4 min"; "-" for None."""
    if seconds is None or not math.isfinite(seconds):
        return "-"
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def count(number: int | None) -> str:
    """A whole number with thin groups: 12 345; "-" for None."""
    return "-" if number is None else f"{number:,}".replace(",", "\u2009")


__all__ = ["count", "duration", "loss", "numeral"]
