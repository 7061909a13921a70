"""Weight decay, coupled (into the gradient, as an L2 penalty) and decoupled (into the step, as in AdamW)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from downslope.optim.flow import Flow, Lists
from downslope.optim.rule import Chain, Rule, Scalar, Scalars, Stateless, chain
from downslope.optim.scale import ScaleByLr

__all__ = ["CoupledDecay", "DecoupledDecay", "with_decay"]


@dataclass(frozen=True, kw_only=True)
class CoupledDecay(Rule[Stateless]):
    """Adds the gradient of an L2 penalty: ``g + lambda p``, before anything scales the gradient.

    lambda is `weight_decay`, in [0, inf), 0 as torch has it. The penalty is ``lambda/2 |p|^2``.

    Differs from: `DecoupledDecay`, once a link after it divides by a function of g.
    Source: Krogh and Hertz 1991, "A simple weight decay can improve generalization".
    """

    weight_decay: Scalar = 0.0

    @property
    def idle(self) -> bool:
        return isinstance(self.weight_decay, float) and self.weight_decay == 0.0

    def init(self, p: Tensor) -> Stateless:
        return ()

    def at(self, t: int) -> Scalars:
        return Scalars(rate=self.weight_decay)

    def update(self, g: Tensor, state: Stateless, p: Tensor, k: Scalars) -> tuple[Tensor, Stateless]:
        return g + k.rate * p, ()

    def eager(self, flow: Flow, state: Lists, p: list[Tensor], k: Scalars) -> Flow:
        return flow.decayed(float(k.rate))


@dataclass(frozen=True, kw_only=True)
class DecoupledDecay(Rule[Stateless]):
    """Pulls the parameters themselves: ``g + lambda p`` after scaling, so that p shrinks by ``lr lambda`` a
    step.

    lambda is `weight_decay`, in [0, inf), 0.01 as torch.optim.AdamW has it.

    Differs from: the paper, whose decay is not multiplied by lr but by the schedule alone; this is torch's
    form.
    Source: Loshchilov and Hutter 2019, "Decoupled weight decay regularization", algorithm 2, line 12.
    """

    weight_decay: Scalar = 0.01

    @property
    def idle(self) -> bool:
        return isinstance(self.weight_decay, float) and self.weight_decay == 0.0

    def init(self, p: Tensor) -> Stateless:
        return ()

    def at(self, t: int) -> Scalars:
        return Scalars(rate=self.weight_decay)

    def update(self, g: Tensor, state: Stateless, p: Tensor, k: Scalars) -> tuple[Tensor, Stateless]:
        return g + k.rate * p, ()

    def eager(self, flow: Flow, state: Lists, p: list[Tensor], k: Scalars) -> Flow:
        return flow.decayed(float(k.rate))


def with_decay(rule: Rule[Any] | Chain, settings: Mapping[str, Any]) -> Chain:
    """`rule` times the rate, with the decay before or behind it.

    Args:
        rule: what scales the gradient.
        settings: ``lr``, ``weight_decay``, and ``decoupled_weight_decay``: whether the parameters themselves
            decay, as in torch's NAdam and RAdam.
    """
    rate, weight_decay = ScaleByLr(lr=settings["lr"]), settings["weight_decay"]
    if settings["decoupled_weight_decay"]:
        return chain(rule, DecoupledDecay(weight_decay=weight_decay), rate)
    return chain(CoupledDecay(weight_decay=weight_decay), rule, rate)
