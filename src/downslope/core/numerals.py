"""Numbers as people read them: few digits, no exponent where none is needed, non-finite ones as such."""

from __future__ import annotations

import math
from collections.abc import Sequence

LOSS = 4
"""Significant digits of a loss, wherever it is told: two that differ in the fourth are two."""


def loss(value: float | None) -> str:
    """A loss with `LOSS` significant digits, so that it reads the same in every line that tells it."""
    return numeral(value, LOSS)


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


def many(count: int, word: str) -> str:
    """So many of a thing: "1 remedy", "2 remedies"."""
    if count == 1:
        return f"1 {word}"
    return f"{count} {word[:-1]}ies" if word.endswith("y") else f"{count} {word}s"


def place(at: Sequence[float]) -> str:
    """Coordinates as people read them: "(1, -0.5)"; of more than three only how many."""
    return f"({', '.join(numeral(each) for each in at)})" if len(at) <= 3 else f"({len(at)} coordinates)"
