"""Which learning rate did best in the short trials: read off ``facts["rates"]``, which `diagnose` measures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from downslope.core.run import Run

BETTER = 0.05
"""Share of the way from constant to the best rate by which another rate has to win a short trial."""


def best_rate(run: Run, side: Literal["lower", "higher"]) -> float | None:
    """The rate on one side of the recipe's own with the lowest loss, if it beats the recipe's own clearly."""
    rates: Mapping[str, Any] = run.facts.get("rates") or {}
    own, start = rates.get("lr"), rates.get("start")
    if own is None or start is None:
        return None
    control = rates["control"] if rates.get("control") is not None else math.inf
    rows = [
        (loss, lr)
        for lr, loss in rates["tried"]
        if loss is not None and (lr < own if side == "lower" else lr > own)
    ]
    if not rows:
        return None
    loss, lr = min(rows)
    way = start - min(loss, control)
    gained = min(control, start) - loss
    return float(lr) if way > 0 and gained > BETTER * way else None
