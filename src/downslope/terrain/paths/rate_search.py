"""A learning rate that is found by trying, for a picture of several optimizers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch

from downslope.core.numerals import numeral
from downslope.terrain.functions import Function
from downslope.terrain.hvp import length
from downslope.terrain.paths.walk import walked
from downslope.terrain.slices.slice import Floats

RATES = tuple(float(f"{10.0 ** (k / 2):.1g}") for k in range(-8, 3))
"""Learning rates that are tried where none is given: 1e-4 to 10, two to a decade."""

FIRST, SEARCHED = 50, 1000
"""Steps of the trial runs: all rates take the first, the best three go on to the second."""

REACHED = 1e-8
"""Height above the lowest value at which a trial run counts as there."""

SPIKE, LATE = 1.0, 0.1
"""Rises of the value, in its first height above the lowest, that are none of a method's own swinging: the
largest of all, and the largest once a tenth of the steps is over."""

SHARE = 0.9
"""Of the descent of the best rate that one without a spike must make to be taken in its place."""


class _Tried(NamedTuple):
    height: float
    """Of its end above the lowest; 0 where it is there."""
    after: float
    """Steps until it was there."""
    rate: float
    rise: float
    """The largest, above the lowest value before."""
    spikes: bool


def searched(
    function: Function, name: str, given: Mapping[str, Any], start: tuple[float, ...], steps: int
) -> tuple[float, str]:
    """A learning rate, and how it was found.

    Of 11 rates the three that are lowest after 50 steps go on to 1000, and that which ends lowest is taken,
    or is there first; one whose value spikes on the way only where no other comes near it.
    """
    if not function.lowest:
        return _by_first_step(function, name, start)
    steps = min(steps, SEARCHED)
    first = [_tried(function, name, {**given, "lr": rate}, start, min(steps, FIRST)) for rate in RATES]
    kept = [each.rate for each in sorted(each for each in first if each)[:3]] or [RATES[0]]
    last = [_tried(function, name, {**given, "lr": rate}, start, steps) for rate in kept]
    found = sorted(each for each in last if each)
    how = f"the best of {len(RATES)} from {RATES[0]:g} to {RATES[-1]:g} over {steps} steps"
    if not found:
        return kept[0], how
    best, fall = found[0], function.at(*start) - function.lowest[0].value
    if not best.spikes:
        return best.rate, how
    steady = [
        each for each in found if not each.spikes and fall - each.height >= SHARE * (fall - best.height)
    ]
    rose = f"its value rises by {numeral(best.rise)} on the way"
    if steady:
        return steady[0].rate, f"{how} without a spike: {numeral(best.rate)} ends lower, but {rose}"
    return best.rate, f"{how}; {rose}"


def _by_first_step(function: Function, name: str, start: tuple[float, ...]) -> tuple[float, str]:
    slope = function.gradient(torch.tensor(start, dtype=torch.float64))
    wide = max(high - low for low, high in function.domain)
    by_size = name in ("gd", "sgd", "momentum", "nesterov")
    rate = 0.02 * wide / max(length(slope), 0.5) if by_size else 0.02 * wide
    why = "there is no minimum to try for" if function.whole else "no minimum is known to try for"
    return float(f"{rate:.1g}"), f"a first step of a fiftieth of the domain, since {why}"


def _tried(
    function: Function, name: str, settings: dict[str, Any], start: tuple[float, ...], steps: int
) -> _Tried | None:
    """What a rate comes to; None where it leads nowhere."""
    lowest = function.lowest[0].value
    walk = walked(function, name, settings, start, steps)
    values = walk.values
    if walk.status in ("diverged", "left", "failed") or values[-1] < lowest - REACHED:
        return None
    above = np.flatnonzero(values - lowest >= REACHED)
    after = float(above[-1] + 1) if len(above) else 0.0
    height = 0.0 if after < len(values) else float(values[-1]) - lowest
    rises: Floats = values - np.minimum.accumulate(values)
    first, late = float(values[0]) - lowest, float(rises[len(rises) // 10 :].max())
    spikes = bool(float(rises.max()) > SPIKE * first or late > LATE * first)
    return _Tried(height, after, settings["lr"], float(rises.max()), spikes)
