"""Averages of the weights as last links: exponential, and the plain mean (Polyak and Juditsky 1992)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from torch import Tensor

from downslope.optim.domains import Count, Domains, Interval
from downslope.optim.rule import Rule, Scalars

__all__ = ["Averaged", "WeightEMA", "WeightMean", "ema_decay", "mean_decay"]


def ema_decay(count: int, decay: float) -> float:
    """Decay of an exponential average that holds `count` weights: ``min(decay, (1 + count) / (10 + count))``.

    A constant decay would leave a short run's average at its first weights; this is the warm-up of
    TensorFlow's ExponentialMovingAverage (``num_updates``).
    """
    return min(decay, (1 + count) / (10 + count))


def mean_decay(count: int) -> float:
    """The decay with which an exponential average that holds `count` weights is their plain mean."""
    return count / (count + 1)


class Averaged(NamedTuple):
    """State of an average of the weights."""

    a: Tensor
    """The average; shape and dtype of p."""


class _WeightAverage(Rule[Averaged]):
    """What both averages have in common: ``a = d a + (1 - d) (p - g)``; the step itself passes unchanged."""

    memory: ClassVar[type[tuple[Tensor, ...]]] = Averaged
    ends: ClassVar[int] = 2
    counts: ClassVar[bool] = True

    def init(self, p: Tensor) -> Averaged:
        return Averaged(p.detach().clone())

    def update(self, g: Tensor, state: Averaged, p: Tensor, k: Scalars) -> tuple[Tensor, Averaged]:
        a = state.a + k.gain * (p - g - state.a)
        return g, Averaged(a)

    def shown(self, state: Averaged, p: Tensor, tally: Mapping[str, float]) -> Tensor:
        return state.a


_START = Count(0, "the steps before the first whose weights count", "0 is usual")


@dataclass(frozen=True, kw_only=True)
class WeightEMA(_WeightAverage):
    """Keeps an exponential average of the weights beside the run: ``a = d a + (1 - d) p`` after every step.

    d is ``min(average_decay, (1 + n) / (10 + n))`` with n weights in the average, `average_decay` in [0, 1);
    the first weights, after step `average_start` + 1, are the first average. It is the last link of its
    chain, behind the rate, and changes nothing of the training. Weights to evaluate: a. One tensor of state
    per parameter.

    Differs from: a constant d, which holds on to the first weights for 1 / (1 - d) steps. A recipe has the
    same average for every optimizer, torch's too: ``average="ema"``.
    Source: TensorFlow's ExponentialMovingAverage; Polyak and Juditsky 1992 for averages as such.
    """

    keys: ClassVar[tuple[str, ...]] = ("weight_ema",)
    domains: ClassVar[Domains] = {
        "average_decay": Interval(0.0, 1.0, "the decay of the mean of the weights", "0.999 is usual"),
        "average_start": _START,
    }

    average_decay: float = 0.999
    average_start: int = 0

    def at(self, t: int) -> Scalars:
        n = t - 1 - self.average_start
        return Scalars(gain=1.0 if n <= 0 else 1.0 - ema_decay(n, self.average_decay))


@dataclass(frozen=True, kw_only=True)
class WeightMean(_WeightAverage):
    """Keeps the plain mean of the weights beside the run: ``a = a + (p - a) / (n + 1)`` after every step.

    n weights are in it already; those of the first `average_start` steps are left out. It is the last link of
    its chain, behind the rate, and changes nothing of the training. Weights to evaluate: a. One tensor of
    state per parameter.

    Differs from: ``average="polyak"`` of a recipe in nothing but its place.
    Source: Polyak and Juditsky 1992, "Acceleration of stochastic approximation by averaging", eq. 2;
    Ruppert 1988.
    """

    keys: ClassVar[tuple[str, ...]] = ("weight_mean",)
    domains: ClassVar[Domains] = {"average_start": _START}

    average_start: int = 0

    def at(self, t: int) -> Scalars:
        n = t - 1 - self.average_start
        return Scalars(gain=1.0 if n <= 0 else 1.0 - mean_decay(n))
