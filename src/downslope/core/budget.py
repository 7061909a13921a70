"""What a verb may spend: seconds or steps, as a person writes them."""

from __future__ import annotations

import math
import re
import time
from typing import Any

from downslope.core.errors import InputError

_UNITS = {"": 1.0, "s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


class Budget:
    """Time and steps that are left.

    Args:
        text: "2m", "90s", "1h", seconds as a number, or "500 steps".

    Raises:
        InputError: anything else, or nothing positive.
    """

    def __init__(self, text: str | float) -> None:
        self.started = time.monotonic()
        self.seconds, self.steps = _read(text)

    @property
    def spent(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    @property
    def left(self) -> float:
        """Seconds left; infinite where steps were given."""
        return self.seconds - self.spent

    def at_most(self, seconds: float) -> None:
        """Lower the limit to `seconds` from the start."""
        self.seconds = min(self.seconds, seconds)

    @property
    def ends(self) -> float:
        """`time.monotonic` at which the time is used up."""
        return self.started + self.seconds


def _read(text: str | float) -> tuple[float, int | None]:
    wrong = InputError(f"budget={text!r}: must be a time such as '2m', '90s', 90, or '500 steps'")
    given: Any = text
    if isinstance(given, bool) or not isinstance(given, (str, int, float)):
        raise wrong
    if isinstance(text, (int, float)):
        if not text > 0:
            raise wrong
        return float(text), None
    found = re.fullmatch(r"\s*([0-9]*\.?[0-9]+(?:e[0-9]+)?)\s*([a-z]*)\s*", text.lower())
    if found is None or not float(found[1]) > 0:
        raise wrong
    if math.isinf(float(found[1])):
        raise wrong
    if found[2] in ("step", "steps"):
        return math.inf, max(1, int(float(found[1])))
    if found[2] not in _UNITS:
        raise wrong
    return float(found[1]) * _UNITS[found[2]], None
