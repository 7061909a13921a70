"""Time to target: the first evaluation at which a run is at the target or beyond it, in steps and in seconds.

Seconds are steps times the seconds of one step, measured by `downslope.racing.pace` for each contestant alone
and in turns: runs that train together have no time of their own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from downslope.racing.measure import Measure
from downslope.racing.outcome import Outcome

FRACTION = 0.95
"""Share of the way of the reference that is asked for where there is no goal. Convention."""


class Target(NamedTuple):
    """What has to be reached."""

    level: float
    """Of the measure; NaN where there is none."""
    source: Literal["goal", "given", "reference", "none"]
    said: str
    """Where it is from, in words."""


def first_reached(outcome: Outcome, measure: Measure, target: float) -> float:
    """Steps to the first evaluation at `target` or beyond; infinite where there is none."""
    for step, level in zip(outcome.steps, outcome.levels, strict=True):
        if measure.reached(level, target):
            return float(step)
    return math.inf


def of_reference(
    name: str, outcomes: Sequence[Outcome], measure: Measure, fraction: float = FRACTION
) -> Target:
    """The level after `fraction` of the way of a reference, from its first evaluation to its final level.

    Medians over its seeds: ``start + fraction (end - start)``.

    Args:
        name: Of the reference.
        outcomes: Of its seeds.
        measure: Of the levels.
        fraction: In (0, 1].
    """
    starts = [each.levels[0] for each in outcomes if each.levels and math.isfinite(each.levels[0])]
    costs = [measure.cost(each.level) for each in outcomes]
    end = float(np.median(costs)) if costs and sum(map(math.isfinite, costs)) > len(costs) / 2 else math.inf
    if not starts or not math.isfinite(end):
        return Target(math.nan, "none", "no target: no goal, and the reference ended nowhere")
    start = float(np.median(starts))
    if end >= measure.cost(start):
        return Target(math.nan, "none", f"no target: no goal, and {name} never got better than its start")
    end = measure.level(end)
    said = f"{100 * fraction:g} % of the way of {name}"
    return Target(start + fraction * (end - start), "reference", said)


def step_ratio(first: Sequence[float], second: Sequence[float]) -> tuple[float, float]:
    """How long a step of the first takes over one of the second: the least and the most of the rounds.

    A pace is measured once for all seeds, so that its error has one sign on all of them. Of n rounds in turns
    all lie on one side of the true ratio with a chance of ``2^-n``.

    Args:
        first: Seconds of a step in each round.
        second: The same of the other, in the same rounds.
    """
    ratios = [a / b for a, b in zip(first, second, strict=False) if b > 0]
    return (min(ratios), max(ratios)) if ratios else (math.nan, math.nan)


def paces_of(rounds: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Name to seconds of a step: the median of its rounds, one for those that cannot be told apart.

    The fastest is joined by all whose ratio to it may be one in what was measured (`step_ratio`), then the
    fastest of the others, and so on: else one recipe under two names would have two scores in seconds.

    Args:
        rounds: Name to seconds of a step in each round.
    """
    medians = {name: float(np.median(each)) for name, each in rounds.items() if len(each)}
    found: dict[str, float] = {}
    for first in sorted(medians, key=lambda name: medians[name]):
        if first in found:
            continue
        for name in medians:
            low, high = step_ratio(rounds[name], rounds[first])
            if name not in found and low <= 1 <= high:
                found[name] = medians[first]
        found[first] = medians[first]
    return found


def looks(outcomes: Sequence[Outcome]) -> int | None:
    """Steps between two evaluations, the most; None where none was made: no time is known more finely."""
    gaps = [b - a for one in outcomes for a, b in zip(one.steps, one.steps[1:], strict=False)]
    return max(gaps, default=None)


def median_time(times: Sequence[float]) -> float:
    """The median over seeds, infinite where half of them did not arrive (as AlgoPerf over studies)."""
    ordered = sorted(times)
    n = len(ordered)
    if not n:
        return math.inf
    low, high = ordered[(n - 1) // 2], ordered[n // 2]
    return math.inf if math.isinf(high) else (low + high) / 2
