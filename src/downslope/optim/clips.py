"""What an optimizer clips by itself: the links of its chains that bound a gradient or a step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from downslope.optim.centralise import Centralise
from downslope.optim.clip_adaptive import ClipAdaptive
from downslope.optim.clip_norm import ClipNorm, ClipNorm1, ClipNormInf
from downslope.optim.clip_tensor import ClipTensor
from downslope.optim.clip_value import ClipValue
from downslope.optim.decay import CoupledDecay, DecoupledDecay
from downslope.optim.driver import Optimizer
from downslope.optim.inside import innermost
from downslope.optim.momentum import HeavyBall
from downslope.optim.moving_average import MovingAverage
from downslope.optim.nesterov import LookAhead
from downslope.optim.routes import routed
from downslope.optim.rule import AnyRule
from downslope.optim.scale import ScaleByLr

__all__ = ["Clips", "clips"]

_BEFORE = (Centralise, CoupledDecay)
"""Links after which a gradient is still one."""

_LINEAR = (*_BEFORE, DecoupledDecay, HeavyBall, MovingAverage, LookAhead, ScaleByLr)
"""Links that make twice the step of twice the gradient."""


class Clips(NamedTuple):
    """What is clipped, and to what."""

    told: str
    """In words: ``"clip norm 1"``."""
    norm: float | None
    """The norm to which the whole gradient is clipped; None where it is something else that is."""
    plain: bool
    """Whether the step is in proportion to what is clipped, so that a clip shortens it."""


def clips(optimizer: torch.optim.Optimizer) -> Clips | None:
    """What `optimizer` clips by links of its own; None for nothing, and for any that is not of ours.

    Args:
        optimizer: as it is set now; of a wrapper, what is inside counts.
    """
    inside = innermost(optimizer)
    if not isinstance(inside, Optimizer):
        return None
    composed = [routed(inside._compose(group)) for group in inside.param_groups]  # pyright: ignore[reportPrivateUsage]
    found = [_of(chain.links) for routes in composed for chain in routes.chains]
    there = [each for each in found if each is not None]
    if not there:
        return None
    norms = {None if each is None else each.norm for each in found}
    told = " and ".join(dict.fromkeys(each.told for each in there))
    norm = norms.pop() if len(norms) == 1 else None
    return Clips(told, norm, all(each.plain for each in there))


def _of(links: Sequence[AnyRule]) -> Clips | None:
    """Of one chain."""
    places = [i for i, link in enumerate(links) if not link.idle and (_told(link) is not None)]
    if not places:
        return None
    first = next((i for i in places if type(links[i]) is ClipNorm), None)
    leads = first is not None and all(
        isinstance(link, _BEFORE) or i in places for i, link in enumerate(links[:first])
    )
    norm = getattr(links[first], "max_norm", None) if leads and first is not None else None
    told = " and ".join(dict.fromkeys(str(_told(links[i])) for i in places))
    after = [link for i, link in enumerate(links) if i > places[0] and i not in places and not link.idle]
    return Clips(told, _number(norm), all(isinstance(link, _LINEAR) for link in after))


def _told(link: AnyRule) -> str | None:
    """A link that clips, in words; None for any other."""
    fields: Any = link
    if isinstance(link, ClipNorm):
        one, largest = isinstance(link, ClipNorm1), isinstance(link, ClipNormInf)
        kind = " (sum of sizes)" if one else " (largest size)" if largest else ""
        return f"clip norm {_said(fields.max_norm)}{kind}"
    if isinstance(link, ClipValue):
        return f"clip value {_said(fields.clip_value)}"
    if isinstance(link, ClipTensor):
        return f"clip norm {_said(fields.max_tensor_norm)} of each tensor"
    if isinstance(link, ClipAdaptive):
        return f"clip {_said(fields.clipping)} of each unit's weights"
    return None


def _number(value: Any) -> float | None:
    one = isinstance(value, (int, float)) or (isinstance(value, torch.Tensor) and value.numel() == 1)
    return float(value) if one and math.isfinite(float(value)) else None


def _said(value: Any) -> str:
    number = _number(value)
    return "of each member" if number is None else f"{number:g}"
