"""Trials that ended at different steps, on one footing: by the best of each as of a step that all reached.

A pruned trial has no value that a finished one could be held against, but both were measured on their way.
What mattered is told from there, where no trial is missing: of the others only good ones are left to compare.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

from downslope.tuning.trained import Curve
from downslope.tuning.trial import Trial

Direction = Literal["min", "max"]


def reached(trial: Trial) -> int:
    """Optimizer steps after which it ended."""
    return max(trial.rungs, default=0) or int(trial.attrs.get("steps") or 0)


def ranked(trials: Sequence[Trial], direction: Direction) -> list[Trial]:
    """Trials with a value, the best first: those that came to their end before those that were pruned.

    Of these who came further was better where they were compared.
    """
    sign = -1.0 if direction == "max" else 1.0
    known = [each for each in trials if each.value is not None and each.state in ("done", "pruned")]

    def place(each: Trial) -> tuple[int, float, int]:
        return -reached(each) if each.state == "pruned" else -(2**62), sign * (each.value or 0.0), each.number

    return sorted(known, key=place)


def compared(
    trials: Sequence[Trial], curves: Mapping[int, Curve], direction: Direction, *, seeds: int = 1
) -> tuple[list[Trial], int | None]:
    """The trials with the values that they had at the last step which all reached, and that step.

    Trials as they are, and None, where none was pruned. Who was not measured by that step is left out.

    Args:
        trials: Of the search.
        curves: Number of a trial to the steps and measures of its first seed.
        direction: Which way values are better.
        seeds: Of each trial; curves of several tell of one alone, and only the rungs count.
    """
    if not any(each.state == "pruned" and each.value is not None for each in trials):
        return list(trials), None
    measured = {
        each.number: _measured(each, curves if seeds == 1 else {})
        for each in trials
        if each.value is not None and each.state in ("done", "pruned")
    }
    measured = {number: points for number, points in measured.items() if points}
    if not measured:
        return list(trials), None
    step = min(max(points) for points in measured.values())
    best = max if direction == "max" else min
    found: list[Trial] = []
    for each in trials:
        seen = [value for at, value in measured.get(each.number, {}).items() if at <= step]
        if seen:
            found.append(replace(each, state="done", value=best(seen)))
        elif each.state != "done" and each.number not in measured:
            found.append(each)
    return found, step


def _measured(trial: Trial, curves: Mapping[int, Curve]) -> dict[int, float]:
    """Step to value, of the curve and of the rungs."""
    steps, values = curves.get(trial.number, ((), ()))
    points = {int(at): float(value) for at, value in zip(steps, values, strict=True)}
    points |= {int(at): float(value) for at, value in trial.rungs.items()}
    return {at: value for at, value in points.items() if math.isfinite(value)}
