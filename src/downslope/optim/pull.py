"""The pull of Lookahead where the base has stepped already: the link `SlowWeights` with nothing left to step.

A group that is worth a kernel is pulled by a loop made of the link, which reads no gradient; everything else
by torch's operations, large tensors in pieces that stay in the cache. Half precision is pulled in float32.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from torch import Tensor

from downslope.core.errors import RecipeError
from downslope.optim.kernel.store import missing
from downslope.optim.kernel.trace import Traced, traced
from downslope.optim.plan import kernel_obstacle, size_of
from downslope.optim.portions import PIECE, flat
from downslope.optim.rounding import Draws, rounded, widened
from downslope.optim.rule import Chain, Rule, Scalars, Stateless, chain
from downslope.optim.slow_weights import SlowWeights

__all__ = ["Pulled", "pull"]

_log = logging.getLogger("downslope")


@dataclass(frozen=True, kw_only=True)
class _Made(Rule[Stateless]):
    """The step was made: what is left of it is 0, whatever the gradient."""

    def init(self, p: Tensor) -> Stateless:
        return ()

    def at(self, t: int) -> Scalars:
        return Scalars()

    def update(self, g: Tensor, state: Stateless, p: Tensor, k: Scalars) -> tuple[Tensor, Stateless]:
        return cast("Tensor", 0.0), ()


class Pulled(NamedTuple):
    """A parameter and its slow weights."""

    theta: Tensor
    """The parameter, where the base has brought it, or its float32 copy."""
    phi: Tensor
    draws: Draws | None = None
    """The random bits by which the parameter is rounded, if it is by chance."""


def pull(given: Sequence[Pulled], link: SlowWeights, t: int, *, kernels: bool) -> None:
    """Step `t` of the `link`: where it is one that pulls, parameters and slow weights change in place.

    To be called where no gradients are kept.

    Args:
        given: parameters and slow weights.
        link: what to do.
        t: the base's steps so far, from 1.
        kernels: whether kernels may do it.
    """
    links = chain(_Made(), link)
    ks = links.at(t)
    programs = traced(links)
    looped: dict[torch.dtype, list[Pulled]] = {}
    rest = list(given)
    worth = not size_of([each.theta for each in given]).small
    if kernels and isinstance(programs, Traced) and worth and missing() is None:
        rest = []
        for each in given:
            fits = each.draws is None and _alike(*each[:2]) and kernel_obstacle(each.theta, programs) is None
            (looped.setdefault(each.theta.dtype, []) if fits else rest).append(each)
        for own in looped.values():
            if not _pull_by_kernel(programs, own, ks):
                rest += own
    for each in rest:
        _pull_by_torch(links, *each, ks)


def _alike(p: Tensor, held: Tensor) -> bool:
    return (p.dtype, p.device, p.stride()) == (held.dtype, held.device, held.stride())


def _pull_by_kernel(programs: Traced, given: list[Pulled], ks: Sequence[Scalars]) -> bool:
    from downslope.optim.kernel.table import KernelStep

    params = [each.theta for each in given]
    try:
        kernel = KernelStep(programs, params, [[each.phi for each in given]], maximize=False)
    except RecipeError as error:
        _log.warning("%s; torch's operations pull instead", error)
        return False
    kernel.update(params, params, ks)  # it reads no gradient, whatever stands in its place
    return True


def _pull_by_torch(
    links: Chain, theta: Tensor, phi: Tensor, draws: Draws | None, ks: Sequence[Scalars]
) -> None:
    for offset, p, held in _pieces(theta.detach(), phi):
        wide, slow = widened(p), widened(held)
        step, after = links.update(wide, [(), links.links[1].remember([slow])], wide, ks)
        p.copy_(rounded(wide - step, p.dtype, None if draws is None else draws.of(0, p, offset)))
        held.copy_(after[1][0])


def _pieces(p: Tensor, held: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
    """A parameter and its slow weights, in pieces that stay in the cache where they lie flat in memory; and
    where each begins.
    """
    rows = flat([p, held])
    if rows is None:
        yield 0, p, held
        return
    for start in range(0, p.numel(), PIECE):
        theta, phi = (row[start : start + PIECE] for row in rows)
        yield start, theta, phi
