"""What a page shows of an output, held against what was printed: the same words, nearly the same numbers.

Times, threads, line breaks, intervals and errors are not compared, and of a number only what every processor
gives.
"""

from __future__ import annotations

import re

NEAR = 0.1
"""Relative difference below which two numbers are alike, as another processor may print them."""
COUNTED = 20
"""Whole numbers up to it are counts, such as the 7/9 of a diagnosis, and are alike only if equal."""
TINY = 1e-9
"""Numbers below it are alike whatever they are: what is left of a loss there is rounding."""
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[-+]?\d+)?")
TOKEN = re.compile(rf"{NUMBER.pattern}|[^\W\d]\w*|[^\w\s]")
LEFT_OUT = (
    (re.compile(r"\b\d+(?:\.\d+)? s\b"), "some s"),
    (re.compile(r"\bCPU \d+ threads?\b"), "CPU"),
    (re.compile(r"95 % \S+ to [\d.]+"), "95 %"),
    (re.compile(r" \+- [\d.]+(?:e[-+]?\d+)?"), ""),
)
GAP = "..."


def tokens(text: str) -> list[str]:
    """Numbers, words and signs of `text`, without what differs from run to run."""
    for pattern, instead in LEFT_OUT:
        text = pattern.sub(instead, text)
    return TOKEN.findall(text)


def alike(shown: str, printed: str, near: float = NEAR) -> bool:
    """Whether two tokens say the same."""
    if not (NUMBER.fullmatch(shown) and NUMBER.fullmatch(printed)):
        return shown == printed
    one, other = float(shown), float(printed)
    if shown.isdigit() and printed.isdigit() and min(one, other) <= COUNTED:
        return one == other
    return one == other or abs(one - other) < max(near * max(abs(one), abs(other)), TINY)


def difference(shown: str, printed: str, near: float = NEAR) -> str:
    """Where `shown` departs from `printed` first, in words; empty where it does not."""
    expected, found = tokens(shown), tokens(printed)
    for place, (one, other) in enumerate(zip(expected, found, strict=False)):
        if not alike(one, other, near):
            return f"shown {_around(expected, place)!r}, printed {_around(found, place)!r}"
    if len(expected) != len(found):
        longer, side = (expected, "shown") if len(expected) > len(found) else (found, "printed")
        return f"only {side}: {' '.join(longer[min(len(expected), len(found)) :])!r}"
    return ""


def told(comment: str, printed: str) -> bool:
    """Whether a comment beside a print has what is printed, word by word; it may say more after it.

    "..." in it stands for anything, as in ``# Cause: dead-units ...``.
    """
    found = tokens(printed)
    if GAP not in comment:
        expected = tokens(comment)
        return len(expected) >= len(found) > 0 and all(map(alike, expected, found))
    first, *others = (tokens(piece) for piece in comment.split(GAP))
    at = _at(first, found[: len(first)])
    for piece in others:
        found = found[at + len(first) :] if at >= 0 else []
        first, at = piece, _at(piece, found) if at >= 0 else -1
    return at >= 0


def _at(piece: list[str], words: list[str]) -> int:
    """Where `piece` stands in `words`; -1 where it does not."""
    starts = range(len(words) - len(piece) + 1)
    return next((at for at in starts if all(map(alike, piece, words[at:]))), -1)


def _around(words: list[str], place: int) -> str:
    return " ".join(words[max(0, place - 4) : place + 5])
