"""Slow weights: the last link of Lookahead (Zhang et al. 2019)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from torch import Tensor

from downslope.optim.domains import Count, Domains, Interval
from downslope.optim.rule import Rule, Scalar, Scalars

__all__ = ["Slow", "SlowWeights"]


class Slow(NamedTuple):
    """State of Lookahead."""

    phi: Tensor
    """The slow weights; shape and dtype of p."""


@dataclass(frozen=True, kw_only=True)
class SlowWeights(Rule[Slow]):
    """Every k-th step pulls the slow weights towards the fast ones, which go on from there.

    ``theta = p - g``; at every k-th step ``phi = phi + alpha (theta - phi)`` and ``p = phi``, else ``p =
    theta``. k is `la_steps`, one of 1, 2, ...; alpha is `la_alpha` in [0, 1]. It is the last link of its
    chain, behind the rate. phi starts as p. Weights to evaluate: phi. One tensor of state per parameter.

    Differs from: the authors' class, which counts steps for all parameters alike, and shows the fast weights
    unless it is asked for the slow ones. Momentum and other state go on over the pull, as with the authors'
    default and in the paper's experiments; of their `pullback_momentum` "reset" and "pullback" are left out.
    `LookAhead` is Nesterov's link and has nothing to do with it.
    Source: Zhang, Lucas, Hinton and Ba 2019, "Lookahead optimizer: k steps forward, 1 step back",
    algorithm 1.
    """

    memory: ClassVar[type[tuple[Tensor, ...]]] = Slow
    ends: ClassVar[int] = 1
    keys: ClassVar[tuple[str, ...]] = ("slow",)
    counts: ClassVar[bool] = True
    domains: ClassVar[Domains] = {
        "la_steps": Count(1, "the steps from one pull of the slow weights to the next", "5 is usual"),
        "la_alpha": Interval(0.0, 1.0, "the share of the way that slow weights go", "0.5 is usual", True),
    }

    la_steps: int = 5
    la_alpha: Scalar = 0.5

    def init(self, p: Tensor) -> Slow:
        return Slow(p.detach().clone())

    def at(self, t: int) -> Scalars:
        pulls = 1.0 if t % self.la_steps == 0 else 0.0
        return Scalars(pull=pulls * self.la_alpha, back=pulls * (1.0 - self.la_alpha))

    def update(self, g: Tensor, state: Slow, p: Tensor, k: Scalars) -> tuple[Tensor, Slow]:
        ahead = p - g - state.phi
        phi = state.phi + k.pull * ahead
        return g + k.back * ahead, Slow(phi)

    def shown(self, state: Slow, p: Tensor, tally: Mapping[str, float]) -> Tensor:
        return state.phi
