"""Timing two ways of doing one thing in turns, so that a noisy machine disturbs both alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Action = Callable[[], object]


@dataclass(frozen=True)
class Ratios:
    """Seconds of the first over seconds of the second, one ratio for each round."""

    values: tuple[float, ...]
    first: float
    """Median seconds of one call of the first."""
    second: float
    """Median seconds of one call of the second."""

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def quartiles(self) -> tuple[float, float]:
        if len(self.values) == 1:
            return self.values[0], self.values[0]
        low, _, high = statistics.quantiles(self.values, n=4)
        return low, high

    def __str__(self) -> str:
        low, high = self.quartiles
        return f"{self.median:.2f} [{low:.2f}, {high:.2f}]"


def seconds(action: Action, calls: int) -> float:
    """Seconds of one of `calls` calls in a row."""
    start = time.perf_counter()
    for _ in range(calls):
        action()
    return (time.perf_counter() - start) / calls


def calls_for(action: Action, target: float = 0.01) -> int:
    """How many calls take about `target` seconds."""
    action()
    return max(1, int(target / max(seconds(action, 3), 1e-9)))


def interleaved(actions: Sequence[Action], rounds: int, target: float = 0.01) -> list[list[float]]:
    """Seconds of a call of each of `actions` in each of `rounds`, in turns; another starts each round."""
    calls = [calls_for(action, target) for action in actions]
    found: list[list[float]] = [[] for _ in actions]
    for turn in range(rounds):
        for step in range(len(actions)):
            i = (turn + step) % len(actions)
            found[i].append(seconds(actions[i], calls[i]))
    return found


def ratios(first: Sequence[float], second: Sequence[float]) -> Ratios:
    """Round by round, `first` over `second`."""
    values = tuple(a / b for a, b in zip(first, second, strict=True))
    return Ratios(values, statistics.median(first), statistics.median(second))


def paired(a: Action, b: Action, rounds: int = 21, target: float = 0.01) -> Ratios:
    """The time of `a` over the time of `b`, in `rounds` rounds of about `target` seconds each."""
    first, second = interleaved([a, b], rounds, target)
    return ratios(first, second)
