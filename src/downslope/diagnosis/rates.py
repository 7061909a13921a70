"""Which learning rate did best in the short trials, read off ``facts["rates"]``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from downslope.core.run import Run

BETTER = 0.05
"""Share of the way from constant to the best rate by which another rate has to win a short trial."""

NEARLY = 0.9
"""Share of the best rate's way within which a smaller rate is taken instead."""


def best_rate(run: Run, side: Literal["lower", "higher"]) -> float | None:
    """The rate on one side of the recipe's own that does best or nearly so, if it beats the recipe's own
    clearly.
    """
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
    least = min(rows)[0]
    way = start - min(least, control)
    gained = min(control, start) - least
    if way <= 0 or gained <= BETTER * way:
        return None
    # The smallest rate that does nearly as well: a short trial flatters rates that fail later.
    near = [lr for loss, lr in rows if start - loss >= NEARLY * (start - least)]
    return float(min(near))


def rates_tried(run: Run) -> bool:
    """Whether any other rate was put to a trial."""
    rates: Mapping[str, Any] = run.facts.get("rates") or {}
    return bool(rates.get("tried"))


def own_rate(run: Run) -> float | None:
    """The learning rate of the run: its recipe's, or the first that was seen; None where neither is known."""
    if run.recipe is not None and run.recipe.lr is not None:
        return float(run.recipe.lr)
    rates = run.history.series("lr").values
    return float(rates[0]) if len(rates) and math.isfinite(rates[0]) else None
