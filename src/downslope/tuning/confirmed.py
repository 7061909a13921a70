"""The best few trained again with fresh seeds: what the search saw of its winner was partly luck.

The largest of n noisy values is larger than what its configuration is worth (the winner's curse). Seeds that
the search has not seen are not biased: the interval over them is about what a user will get.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from downslope.tuning.schedule import stairs
from downslope.tuning.trial import Trial

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Confirmed:
    """One configuration over fresh seeds.

    Attributes:
        number: Of its trial.
        values: Its configuration.
        seen: The value that the search saw.
        fresh: The value of each fresh seed; one that diverged has the worst there is.
        seeds: These seeds.
    """

    number: int
    values: Mapping[str, Any]
    seen: float
    fresh: tuple[float, ...]
    seeds: tuple[int, ...] = ()

    @property
    def mean(self) -> float:
        """Over the fresh seeds; infinite if one diverged."""
        return (
            math.fsum(self.fresh) / len(self.fresh)
            if all(map(math.isfinite, self.fresh))
            else self.fresh_worst
        )

    @property
    def fresh_worst(self) -> float:
        """The value of a seed that diverged."""
        return next((each for each in self.fresh if not math.isfinite(each)), math.nan)

    @property
    def interval(self) -> tuple[float, float]:
        """Of the mean over seeds, with confidence `CONFIDENCE` by Student's t; NaN with fewer than two."""
        return interval(self.fresh)

    @property
    def curse(self) -> float:
        """By how much the search saw more (less, where less is better) than fresh seeds give."""
        return self.seen - self.mean


def interval(values: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float]:
    """``mean +- t_(n-1) s / sqrt(n)``; NaN with fewer than two values, or one that is not finite."""
    n = len(values)
    if n < 2 or not all(map(math.isfinite, values)):
        return math.nan, math.nan
    from scipy.special import stdtrit

    mean = math.fsum(values) / n
    spread = math.sqrt(math.fsum((each - mean) ** 2 for each in values) / (n - 1))
    half = float(stdtrit(n - 1, 0.5 + confidence / 2)) * spread / math.sqrt(n)
    return mean - half, mean + half


def foremost(trials: Sequence[Trial], direction: Literal["min", "max"], count: int) -> list[Trial]:
    """The `count` best of different configurations, the best first, earlier ones before equals."""
    sign = -1.0 if direction == "max" else 1.0
    done = [each for each in trials if each.state == "done" and each.value is not None]
    return distinct(sorted(done, key=lambda trial: (sign * (trial.value or 0.0), trial.number)), count)


def distinct(trials: Sequence[Trial], count: int) -> list[Trial]:
    """The first `count` of different configurations; of schedules where they changed on the way."""
    found: dict[Any, Trial] = {}
    for each in trials:
        if len(found) == count:
            break
        found.setdefault(str(stairs(each)) if stairs(each) else frozenset(each.values.items()), each)
    return list(found.values())


def winner(found: Sequence[Confirmed], direction: Literal["min", "max"]) -> Confirmed | None:
    """The best mean over fresh seeds; of equals the one that the search saw as better."""
    sign = -1.0 if direction == "max" else 1.0
    whole = [each for each in found if each.fresh]
    return min(whole, key=lambda each: (sign * each.mean, sign * each.seen), default=None)
