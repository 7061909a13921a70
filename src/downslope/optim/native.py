"""Torch's fused kernels, called straight, for the chains that are exactly one of them.

`dissect` takes a chain apart into coupled decay, core, decoupled decay and rate. The core rule then names its
kernel (`Rule.native`), built by one of the functions below; plain descent, which has no core, is torch's SGD.

The kernels read their tensors as flat memory: a gradient laid out otherwise than its parameter gives a wrong
step without a word (as torch's own ``fused=True`` does). The driver therefore gives them dense tensors only,
and compares the strides of gradient and parameter at every step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor

from downslope.optim import ops
from downslope.optim.decay import CoupledDecay, DecoupledDecay
from downslope.optim.flow import Lists
from downslope.optim.rule import Chain, Rule
from downslope.optim.scale import InverseTimeLr, ScaleByLr

__all__ = ["Anatomy", "Native", "fused_adagrad", "fused_adam", "fused_sgd", "match"]

Run = Callable[[list[Tensor], list[Tensor], Lists, list[Tensor], bool], None]
"""(parameters, gradients, state columns, step counts, whether this is the state's first step)."""


class Anatomy(NamedTuple):
    """A chain taken apart."""

    coupled: float
    core: Rule[Any] | None
    decoupled: float
    rate: ScaleByLr | InverseTimeLr
    maximize: bool


@dataclass(frozen=True)
class Native:
    """One of torch's fused kernels with its scalars bound."""

    name: str
    run: Run
    scalars: dict[str, Any]
    """What `run` reads at every call; ``lr`` may be changed."""


def match(chain: Chain, maximize: bool) -> Native | None:
    """Torch's kernel for an active `chain`, or None where none is exactly that chain."""
    parts = dissect(chain, maximize)
    if parts is None:
        return None
    return fused_sgd(parts, 0.0, 0.0, nesterov=False) if parts.core is None else parts.core.native(parts)


def dissect(chain: Chain, maximize: bool) -> Anatomy | None:
    """The parts of an active `chain`, or None if it has other parts, or numbers for each member."""
    if chain.has_members:
        return None
    links = list(chain.links)
    rate = links.pop() if links else None
    if not isinstance(rate, ScaleByLr | InverseTimeLr):
        return None
    coupled = decoupled = 0.0
    if links and isinstance(links[0], CoupledDecay):
        coupled = float(links[0].weight_decay)
        links.pop(0)
    if links and isinstance(links[-1], DecoupledDecay):
        decoupled = float(links[-1].weight_decay)
        links.pop()
    if len(links) > 1:
        return None
    return Anatomy(coupled, links[0] if links else None, decoupled, rate, maximize)


def fused_sgd(
    parts: Anatomy, momentum: float, dampening: float, *, nesterov: bool, starts_at_zero: bool = False
) -> Native | None:
    """Torch's SGD kernel; None unless the rate is constant and there is one decay at most.

    Its first step makes the buffer of the gradient; with `starts_at_zero` it is like every other, from zeros.
    """
    if not isinstance(parts.rate, ScaleByLr) or (parts.decoupled and (parts.coupled or parts.core)):
        return None
    scalars: dict[str, Any] = {
        "weight_decay": parts.coupled or parts.decoupled,
        "momentum": momentum,
        "lr": float(parts.rate.lr),
        "dampening": dampening,
        "nesterov": nesterov,
        "maximize": parts.maximize,
    }

    def run(p: list[Tensor], g: list[Tensor], state: Lists, _: list[Tensor], first: bool) -> None:
        fresh = first and bool(state) and not starts_at_zero
        ops.fused_sgd_(p, g, state[0] if state else [], is_first_step=fresh, **scalars)

    return Native("torch._fused_sgd_", run, scalars)


def fused_adagrad(parts: Anatomy, eps: float) -> Native | None:
    """Torch's AdaGrad kernel; None with decoupled decay."""
    if parts.decoupled:
        return None
    scalars: dict[str, Any] = {
        "lr": float(parts.rate.lr),
        "lr_decay": float(parts.rate.lr_decay) if isinstance(parts.rate, InverseTimeLr) else 0.0,
        "weight_decay": parts.coupled,
        "eps": eps,
        "maximize": parts.maximize,
    }

    def run(p: list[Tensor], g: list[Tensor], state: Lists, steps: list[Tensor], _: bool) -> None:
        ops.fused_adagrad_(p, g, state[0], steps, **scalars)

    return Native("torch._fused_adagrad_", run, scalars)


def fused_adam(
    parts: Anatomy, beta1: float, beta2: float, eps: float, *, amsgrad: bool = False
) -> Native | None:
    """Torch's Adam kernel, or AdamW's with decoupled decay; None with both decays or a falling rate."""
    if not isinstance(parts.rate, ScaleByLr) or (parts.coupled and parts.decoupled):
        return None
    scalars: dict[str, Any] = {
        "lr": float(parts.rate.lr),
        "beta1": beta1,
        "beta2": beta2,
        "weight_decay": parts.coupled or parts.decoupled,
        "eps": eps,
        "amsgrad": amsgrad,
        "maximize": parts.maximize,
    }
    kernel = ops.fused_adamw_ if parts.decoupled else ops.fused_adam_

    def run(p: list[Tensor], g: list[Tensor], state: Lists, steps: list[Tensor], _: bool) -> None:
        kernel(p, g, state[0], state[1], state[2] if amsgrad else [], steps, **scalars)

    return Native("torch._fused_adamw_" if parts.decoupled else "torch._fused_adam_", run, scalars)
