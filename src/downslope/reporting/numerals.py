"""Numbers as people read them: few digits, no exponent where none is needed, non-finite ones as such."""

from __future__ import annotations

import math


def numeral(value: float | None, digits: int = 3) -> str:
    """`value` with `digits` significant digits: 0.0123, 12.3, 1234, 1.2e-07; "nan", "inf"; "-" for None."""
    if value is None:
        return "-"
    if math.isnan(value):
        return "nan"
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 10 ** (digits + 3) or size < 1e-4:
        return f"{value:.{digits - 1}e}".replace("e-0", "e-").replace("e+0", "e").replace("e+", "e")
    if size >= 10**digits:
        return f"{value:.0f}"
    decimals = max(0, digits - 1 - math.floor(math.log10(size)))
    text = f"{value:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


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
