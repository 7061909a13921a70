"""Which learning rate did best in the short trials, read off ``facts["rates"]``."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from downslope.core.edits import SetRecipe
from downslope.core.run import Run

BETTER = 0.05
"""Share of the way from constant to the best rate by which another rate has to win a short trial."""

NEARLY = 0.9
"""Share of the best rate's way within which a smaller rate is taken instead."""

HEAVY = 0.95
"""Momentum from which it is looked at before the learning rate; 0.9 is usual."""


USUAL = {"sgd": 0.1, "momentum": 0.01, "nesterov": 0.01, "adam": 1e-3, "adamw": 1e-3, "rmsprop": 1e-3}
"""Rates that are usual, where nothing says which one is right: those of torch's and Keras's examples."""

_GUESSED = re.compile(r" \S+ is a first guess: no \w+ rate was tried[^.]*\.")


def guessed(lr: float, side: Literal["lower", "higher"] = "lower", then: str = "") -> str:
    """What is said of a rate that nothing was measured of, and what is to be done `then`."""
    return f" {lr:.3g} is a first guess: no {side} rate was tried{then}."


def unguessed(message: str) -> str:
    """The message without that: of what only follows from something else it is no advice."""
    return _GUESSED.sub("", message)


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
    """The learning rate of the run: its recipe's, or the highest that was seen; None where neither is known.

    A warm-up begins at 0.
    """
    if run.recipe is not None and run.recipe.lr is not None:
        return float(run.recipe.lr)
    rates = run.history.series("lr").values
    return float(rates.max()) if len(rates) and np.isfinite(rates).all() else None


def momentum_of(run: Run) -> float:
    """The decay of the moving average of the gradients, in [0, 1); 0 for none, or where it is not known."""
    settings: Mapping[str, Any] = {} if run.recipe is None else run.recipe.settings
    betas: Sequence[float] = settings.get("betas") or (0.0,)
    return float(settings.get("momentum") or betas[0])


def lighter(run: Run) -> SetRecipe | None:
    """A momentum of 0.9 in the place of one from `HEAVY` on; None where it is lighter, or not known."""
    if run.recipe is None or momentum_of(run) < HEAVY:
        return None
    settings: Mapping[str, Any] = run.recipe.settings
    if settings.get("momentum"):
        return SetRecipe({"momentum": 0.9}, {"momentum": settings["momentum"]})
    return SetRecipe({"betas": (0.9, *settings["betas"][1:])}, {"betas": settings["betas"]})
