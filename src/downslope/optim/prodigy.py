"""Prodigy: Adam that finds its learning rate (Mishchenko and Defazio 2024, algorithm 4)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Unpack

import torch
from torch import Tensor

from downslope.core.errors import RecipeError
from downslope.optim.domains import ABOVE_ZERO, Domains, Interval, Maybe, Switch
from downslope.optim.driver import Optimizer, Params
from downslope.optim.options import Options
from downslope.optim.rule import Chain, Rule, Scalar, Scalars, Scope, Tally, chain, field_names

__all__ = ["Distance", "Prodigy", "StepByDistance"]

_INF = math.inf


class Distance(NamedTuple):
    """State of Prodigy."""

    m: Tensor
    """Moving average of d g; shape and dtype of p."""
    v: Tensor
    """Moving average of (d g)**2; shape and dtype of p."""
    s: Tensor
    """Decaying sum of d**2 lr g / d0, the denominator of the estimate; shape and dtype of p."""
    p0: Tensor
    """The parameter before its first step; shape and dtype of p."""


_DOMAINS: Domains = {
    "beta3": Maybe(
        Interval(0.0, 1.0, "the decay of the sums that d is estimated from", "the root of betas[1] is usual"),
        "the root of betas[1]",
    ),
    "d0": Interval(ABOVE_ZERO, _INF, "the first estimate of the distance", "1e-6 is usual"),
    "d_coef": Interval(ABOVE_ZERO, _INF, "the factor of the estimate", "0.5 to 2 is usual"),
    "growth_rate": Interval(1.0, _INF, "the factor by which d may grow in a step", "inf is usual", True),
    "use_bias_correction": Switch("debias Adam's means"),
    "safeguard_warmup": Switch("leave lr out of the denominator of the estimate"),
    "decouple": Switch("decay the weights, not the gradient"),
}


@dataclass(frozen=True, kw_only=True)
class StepByDistance(Rule[Distance]):
    """Adam's step times the estimated distance d to the solution, whole with lr and decay.

    ``m = b1 m + (1 - b1) d g``, ``v = b2 v + (1 - b2) (d g)**2``, ``r = b3 r + (d/d0) d lr <g, p0 - p>``,
    ``s = b3 s + (d/d0) d lr g``, ``d' = max(d, d_coef r / |s|_1)``, ``p - d lr m / (sqrt(v) + d' eps)``;
    the inner product and ``|s|_1`` go over all parameters. Settings: see `Prodigy`. Four tensors of state per
    parameter, read twice.

    Source: Mishchenko and Defazio 2024, "Prodigy: an expeditiously adaptive parameter-free learner",
    algorithm 4; prodigyopt of the authors.
    """

    scope: ClassVar[Scope] = "global"
    memory: ClassVar[type[tuple[Tensor, ...]]] = Distance
    keys: ClassVar[tuple[str, ...]] = ("exp_avg", "exp_avg_sq", "s", "p0")
    tally: ClassVar[Mapping[str, float]] = {"d": 0.0, "d_max": 0.0, "d_numerator": 0.0, "k": 0.0}
    measures: ClassVar[tuple[str, ...]] = ("gain", "path")
    domains: ClassVar[Domains] = _DOMAINS

    lr: Scalar = 1.0
    betas: tuple[Scalar, Scalar] = (0.9, 0.999)
    beta3: Scalar | None = None
    eps: Scalar = 1e-8
    weight_decay: Scalar = 0.0
    decouple: bool = True
    use_bias_correction: bool = False
    safeguard_warmup: bool = False
    d0: Scalar = 1e-6
    d_coef: Scalar = 1.0
    growth_rate: Scalar = _INF

    def init(self, p: Tensor) -> Distance:
        return Distance(torch.zeros_like(p), torch.zeros_like(p), torch.zeros_like(p), p.detach().clone())

    def advance(self, t: int, tally: Mapping[str, float]) -> tuple[Scalars, Tally]:
        b1, b2 = self.betas
        b3 = b2**0.5 if self.beta3 is None else self.beta3
        d, steps = tally["d"] or self.d0, tally["k"] + 1.0
        unbias = (1.0 - b2**steps) ** 0.5 / (1.0 - b1**steps) if self.use_bias_correction else 1.0
        rate = d * self.lr * unbias
        k = Scalars(
            b1=b1,
            b2=b2,
            b3=b3,
            gain1=(1.0 - b1) * d,
            gain2=(1.0 - b2) * d * d,
            gain3=d / self.d0 * (d if self.safeguard_warmup else rate),
            weight=d / self.d0 * rate,
            rate=rate,
            fade=b3,
            coupled=0.0 if self.decouple else self.weight_decay,
            decay=self.weight_decay if self.decouple else 0.0,
        )
        if self.lr == 0.0:  # the group keeps its means and sums, and has no part in the estimate
            k = Scalars(
                **{**vars(k), "b1": 1.0, "b2": 1.0, "b3": 1.0, "gain1": 0.0, "gain2": 0.0, "gain3": 0.0}
            )
        return k, {**tally, "d": d}

    def measure(self, g: Tensor, state: Distance, p: Tensor, k: Scalars) -> tuple[Tensor, ...]:
        h = g + k.coupled * p
        s = k.b3 * state.s + k.gain3 * h
        return k.weight * (h * (state.p0 - p)), s.abs()

    def settle(self, t: int, k: Scalars, totals: Scalars, tally: Mapping[str, Any]) -> tuple[Scalars, Tally]:
        d, most, r = tally["d"], tally["d_max"] or self.d0, tally["d_numerator"]
        gain = k.fade * r + totals.gain
        hat = self.d_coef * gain / totals.path
        d_max = torch.clamp(hat, min=most)
        larger = torch.clamp(hat, min=d) if d == self.d0 else torch.full_like(hat, d)
        grown = torch.minimum(d_max, larger * self.growth_rate)
        moves = totals.path != 0.0  # not before the first gradient; NaN moves, so that it is seen
        one = torch.ones_like(hat)  # torch.where makes float32 of two numbers
        new, rate = torch.where(moves, grown, d * one), torch.where(moves, k.rate * one, 0.0 * one)
        after = {
            "d": new,
            "d_max": torch.where(moves, d_max, most * one),
            "d_numerator": torch.where(moves, gain, r * one),
            "k": tally["k"] + torch.where(moves, one, 0.0 * one),
        }
        return Scalars(**{**vars(k), "eps": new * self.eps, "rate": rate}), after

    def update(self, g: Tensor, state: Distance, p: Tensor, k: Scalars) -> tuple[Tensor, Distance]:
        h = g + k.coupled * p
        m = k.b1 * state.m + k.gain1 * h
        v = k.b2 * state.v + k.gain2 * (h * h)
        s = k.b3 * state.s + k.gain3 * h
        step = k.rate * (m / (v.sqrt() + k.eps) + k.decay * p)
        return step, Distance(m, v, s, state.p0)


class Prodigy(Optimizer):
    """Prodigy: Adam whose step is multiplied by d, a running estimate of the distance to the solution.

    ``p = p - d lr (m / (sqrt(v) + d eps) + lambda p)``, see `StepByDistance`; `d` grows from `d0` within the
    first steps and can be read as ``optimizer.d`` or ``optimizer.param_groups[0]["d"]``. Four tensors of
    state per parameter, read twice.

    Args:
        params: parameters, named parameters, or groups of them. `d` is one number for all of them.
        lr: a factor of d, in [0, inf); leave it at 1 and let a schedule multiply it. A group of lr 0 rests.
        betas: decays of the means of g and g**2, each in [0, 1).
        beta3: decay of the sums that d is estimated from, in [0, 1); None: the root of ``betas[1]``.
        eps: in [0, inf), multiplied by d.
        weight_decay: lambda in [0, inf).
        decouple: decay the weights as AdamW; otherwise add ``lambda p`` to the gradient.
        use_bias_correction: Adam's debiasing of m and v, by the number of steps of the whole optimizer.
        safeguard_warmup: leave lr out of s, for schedules that start low.
        d0: the first d, above 0.
        d_coef: factor of the estimate, above 0; the authors' way of tuning, 0.5 to 2.
        growth_rate: d grows by this factor a step at most, in [1, inf]; 1.02 makes a warm-up.
        maximize: climb in place of descend.
        backend: see `Optimizer`.
        **options: see `downslope.optim.options.Options`.

    Raises:
        RecipeError: a hyper-parameter outside its domain, or groups that differ in what d is estimated by.

    Differs from: the authors' class, which refuses groups of different lr unless one is 0, moves a group of
    lr 0 by the largest lr, and can look at every k-th element only (`slice_p`); here each group's lr weights
    its part of the estimate. The algorithm of the paper adds eps times the old d.
    Source: Mishchenko and Defazio 2024, algorithm 4; prodigyopt of the authors.
    """

    source = "Mishchenko and Defazio 2024, algorithm 4"
    domains: ClassVar[Domains] = _DOMAINS

    def __init__(
        self,
        params: Params,
        lr: float = 1.0,
        betas: tuple[float, float] = (0.9, 0.999),
        beta3: float | None = None,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decouple: bool = True,
        use_bias_correction: bool = False,
        safeguard_warmup: bool = False,
        d0: float = 1e-6,
        d_coef: float = 1.0,
        growth_rate: float = _INF,
        *,
        maximize: bool = False,
        backend: str | None = None,
        **options: Unpack[Options],
    ) -> None:
        settings = {
            "lr": lr,
            "betas": betas,
            "beta3": beta3,
            "eps": eps,
            "weight_decay": weight_decay,
            "decouple": decouple,
            "use_bias_correction": use_bias_correction,
            "safeguard_warmup": safeguard_warmup,
            "d0": d0,
            "d_coef": d_coef,
            "growth_rate": growth_rate,
            "maximize": maximize,
        }
        super().__init__(params, settings, backend=backend, implementation=options)

    @classmethod
    def compose(cls, settings: Mapping[str, Any]) -> Chain:
        return chain(StepByDistance(**{name: settings[name] for name in field_names(StepByDistance)}))

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a group; see `Optimizer.add_param_group`.

        Raises:
            RecipeError: also where the group differs from the first in what d is estimated by.
        """
        super().add_param_group(param_group)
        first, added = self.param_groups[0], self.param_groups[-1]
        for name in _COMMON:
            if added[name] != first[name]:
                self.param_groups.pop()
                self._layouts.pop()
                raise RecipeError(
                    f"{name}={added[name]!r} in a parameter group, {first[name]!r} in the first: d is one "
                    "number for all parameters, estimated in one way; give the groups the same"
                )
        added.setdefault("d", self.d)

    @property
    def d(self) -> float:
        """The estimate of the distance to the solution; the effective learning rate is ``d lr``."""
        known = next((state["d"] for state in self.state.values() if "d" in state), None)
        return self.param_groups[0]["d0"] if known is None else float(known)

    def _step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = super()._step(closure)
        d = self.d
        for group in self.param_groups:
            group["d"] = d
        return loss


_COMMON = ("betas", "beta3", "d0", "d_coef", "growth_rate", "use_bias_correction")
"""Settings by which d is estimated."""
