"""What counts as much of a loss, in whatever unit and above whatever constant it is measured.

The loss itself is no measure: a constant that is added to it changes no slope. What its objective leaves to
be won is: ``L - min_z L(z)``, the least over outputs z that may be anything, whatever a network could make.
It is the loss itself where the objective goes down to zero (cross-entropy, squared error), and what is above
the least elsewhere (an offset, soft targets). The way that the loss has come from a fresh start is free of a
constant too; the larger of both counts. A start that is worse than the best constant output, as one on inputs
of large numbers is, counts as that: what is lost there is no measure of what there is to learn.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from downslope.core import batches
from downslope.core.errors import DownslopeError
from downslope.core.loss import Objective
from downslope.core.memory import out_of_memory
from downslope.core.problem import Problem
from downslope.terrain.functions.point import Point
from downslope.terrain.ground import Ground, ModelGround
from downslope.terrain.ground.parts import Share
from downslope.terrain.ground.still import Still
from downslope.terrain.hvp import flat, length
from downslope.terrain.methods.lbfgs import LBFGS

STEPS = 25
"""Of L-BFGS from each start; cross-entropy on 10 classes takes about 10."""

ENOUGH = 1e-3
"""Share of the way so far that a step must add for another one."""

NOTHING = 0.01
"""Share of the loss below which its least value counts as zero: a logarithm never gets there."""

MOST = 2**21
"""Numbers put out beyond which the loss's own size is taken: ten vectors of so many are held."""


def scale_of(problem: Problem, ground: ModelGround, loss: float, seed: int) -> float:
    """What counts as much of the loss: what is left to be won, or the way from a fresh start.

    Args:
        problem: Whose model stands there.
        ground: Where; it is put back.
        loss: There.
        seed: Of the fresh start.
    """
    if isinstance(ground.model, Point):
        function = ground.model.function
        return max(abs(loss), abs(function.at(*function.start) - loss))
    kept, start = ground.where(), math.nan
    with suppress(DownslopeError, KeyError, RuntimeError):
        fresh = dict(problem.build(seed).named_parameters())
        ground.put(flat([fresh[name].detach().to(kept) for name in ground.names]))
        start = ground.loss()
    ground.put(kept)
    own = ground.within(lambda: left(ground, loss))
    way = abs(start - loss) if math.isfinite(start) else 0.0
    if way <= own:
        return own
    return max(own, min(way, abs(ground.within(lambda: constant(ground)) - loss)))


def constant(ground: ModelGround) -> float:
    """The least of the objective over outputs that are the same for all examples; infinite where not known.

    Args:
        ground: Where it stands.
    """
    objective = ground.objective
    if objective.function is None or objective.wants_model or objective.wants_inputs:
        return math.inf
    try:
        found = [
            (share.weight, _least(ground, index, share, MOST, alike=True)[0])
            for index, share in ground.shares()
        ]
    except Exception as error:
        if out_of_memory(error):
            raise
        return math.inf  # an objective may do anything with outputs that no model gave
    return math.fsum(weight * least for weight, least in found)


def left(ground: ModelGround, loss: float) -> float:
    """How far the loss is above the least of its objective over outputs that may be anything.

    Penalties are taken to go down to zero. The outputs start as the model's and as zeros, where a sigmoid in
    the objective has a slope, and all of it is on the CPU, where an objective may refuse an output.

    Args:
        ground: Where it stands.
        loss: There.

    Returns:
        The loss's own size where no least value was found, the objective reads the model or its inputs, or is
        the model's own.
    """
    objective = ground.objective
    if objective.function is None or objective.wants_model or objective.wants_inputs:
        return abs(loss)
    try:
        least, room = 0.0, MOST
        for index, share in ground.shares():
            found, numbers = _least(ground, index, share, room)
            least, room = least + share.weight * found, room - numbers
    except Exception as error:
        if out_of_memory(error):
            raise
        return abs(loss)  # an objective may do anything with outputs that no model gave
    if not math.isfinite(least) or abs(least) <= NOTHING * abs(loss):
        return abs(loss)
    return max(loss - least, 0.0)


def _least(
    ground: ModelGround, index: int, share: Share, room: int, *, alike: bool = False
) -> tuple[float, int]:
    """The least of the objective of some examples, and how many numbers their outputs hold.

    `alike`: Over outputs that are the same for all examples.
    """
    with torch.no_grad(), ground.still.look(index):
        output, target, _ = ground.objective.forward(ground.model, share.batch)
    numbers = sum(each.numel() for each in batches.tensors(output) if each.is_floating_point())
    if not 0 < numbers <= room:
        return -math.inf, numbers
    output, target = (
        batches.map_tensors(lambda each: each.detach().cpu(), tree) for tree in (output, target)
    )
    objective = copy.copy(ground.objective)
    if isinstance(objective.function, nn.Module):
        objective.function = copy.deepcopy(objective.function).cpu().requires_grad_(False)
    starts = (torch.clone, torch.zeros_like)
    ends = [_descended(objective, output, target, each, alike=alike) for each in starts]
    return (max if alike else min)(ends), numbers  # the mean output may be the end, from where none is seen


def _descended(
    objective: Objective, output: Any, target: Any, start: Callable[[Tensor], Tensor], *, alike: bool = False
) -> float:
    """Where the objective ends as its outputs go down it; -infinite where it does not end."""
    leaves: list[Tensor] = []
    rows = batches.length(output) if alike else 0

    def freed(leaf: Tensor) -> Tensor:
        if not leaf.is_floating_point():
            return leaf
        leaves.append(start(leaf.mean(0, keepdim=True) if alike else leaf).requires_grad_())
        return leaves[-1]

    free = batches.map_tensors(freed, output)

    def risk() -> Tensor:
        given = free if not alike else batches.map_tensors(widened, free)
        return objective.of(given, target).risk

    def widened(leaf: Tensor) -> Tensor:
        return leaf.expand(rows, *leaf.shape[1:]) if leaf.requires_grad else leaf

    ground, method = Ground([(risk, 1.0)], leaves, still=Still(None, 0)), LBFGS(leaves)
    begin, first = ground.where(), ground.loss()
    value = first
    for _ in range(STEPS):
        before = value
        method.step(ground)
        value = ground.loss()
        if not before - value > ENOUGH * (first - value):
            return -math.inf if _goes_on(ground, begin, first - value) else min(before, value)
    return -math.inf


def _goes_on(ground: Ground, begin: Tensor, fallen: float) -> bool:
    """Whether the same way again, straight down, goes on falling: then a step was short, and not the rest."""
    here, (value, slope) = ground.where(), ground.slope()
    size = length(slope)
    if not size > 0:
        return False
    ground.put(here - length(here - begin) / size * slope)
    return not ground.loss() > value - ENOUGH * fallen
