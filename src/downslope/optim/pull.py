"""The pull of Lookahead where the base has stepped already: the link `SlowWeights` with nothing left to step.

A group that is worth a kernel is pulled by a loop made of the link, which reads no gradient; everything else
by torch's operations, large tensors in pieces that stay in the cache.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from downslope.core.errors import RecipeError
from downslope.optim.kernel.store import missing
from downslope.optim.kernel.trace import Traced, traced
from downslope.optim.plan import kernel_obstacle, size_of
from downslope.optim.portions import PIECE, flat
from downslope.optim.rule import Chain, Rule, Scalars, Stateless, chain
from downslope.optim.slow_weights import SlowWeights

__all__ = ["pull"]

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


@torch.no_grad()
def pull(
    params: Sequence[Tensor], slow: Mapping[Tensor, Tensor], link: SlowWeights, t: int, *, kernels: bool
) -> None:
    """Step `t` of the `link`: where it is one that pulls, `params` and their `slow` weights change in place.

    Args:
        params: the parameters, where the base has brought them.
        slow: the slow weights of each.
        link: what to do.
        t: the base's steps so far, from 1.
        kernels: whether kernels may do it.
    """
    links = chain(_Made(), link)
    ks = links.at(t)
    programs = traced(links)
    looped: dict[torch.dtype, list[Tensor]] = {}
    if kernels and isinstance(programs, Traced) and not size_of(params).small and missing() is None:
        for p in params:
            if kernel_obstacle(p, programs) is None and _alike(p, slow[p]):
                looped.setdefault(p.dtype, []).append(p)
        looped = {kind: own for kind, own in looped.items() if _pull_by_kernel(programs, own, slow, ks)}
    done = {p for own in looped.values() for p in own}
    for p in params:
        if p not in done:
            _pull_by_torch(links, p, slow[p], ks)


def _alike(p: Tensor, held: Tensor) -> bool:
    return (p.dtype, p.device, p.stride()) == (held.dtype, held.device, held.stride())


def _pull_by_kernel(
    programs: Traced, params: list[Tensor], slow: Mapping[Tensor, Tensor], ks: Sequence[Scalars]
) -> bool:
    from downslope.optim.kernel.table import KernelStep

    try:
        kernel = KernelStep(programs, params, [[slow[p] for p in params]], maximize=False)
    except RecipeError as error:
        _log.warning("%s; torch's operations pull instead", error)
        return False
    kernel.update(params, params, ks)  # it reads no gradient, whatever stands in its place
    return True


def _pull_by_torch(links: Chain, p: Tensor, held: Tensor, ks: Sequence[Scalars]) -> None:
    for theta, phi in _pieces(p, held):
        step, after = links.update(theta, [(), links.links[1].remember([phi])], theta, ks)
        theta.sub_(step)
        phi.copy_(after[1][0])


def _pieces(p: Tensor, held: Tensor) -> list[tuple[Tensor, Tensor]]:
    """A parameter and its slow weights, in pieces that stay in the cache where they lie flat in memory."""
    rows = flat([p.detach(), held])
    if rows is None:
        return [(p, held)]
    parts = [cast("tuple[Tensor, ...]", row.split(PIECE)) for row in rows]
    return list(zip(*parts, strict=True))
