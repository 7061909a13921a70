"""Losses made of treads: piecewise constant, with a slope of zero wherever there is one (the 0-1 loss).

No derivative tells anything of them. They are recognised by samples: the gradient is zero at every one, and
the loss is not the same at all. An objective from which no gradient flows at all is one only if small moves
change nothing; where they do, the objective was cut off from the weights by mistake.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from downslope.core.errors import ObjectiveError
from downslope.core.loss import CUT_OFF, Loss, Objective
from downslope.core.problem import Problem
from downslope.terrain.ground import Ground, ModelGround, ground_of
from downslope.terrain.ground.stand import check_ground, ground_at
from downslope.terrain.hvp import length
from downslope.terrain.surveys.reach import reach_of

SAMPLES = 8
"""Points around at which it is looked."""

SMALL = 2.0**-15
"""A move that changes the loss where it is only cut off, in the reach: far above the rounding of float32, in
which an objective may put what it tells, and so short that hardly an example changes sides."""

SAID = "the loss is piecewise constant"


def treads(ground: Ground, reach: float, loss: float, *, seed: int = 0) -> bool:
    """Whether the slope is zero at points around, and the loss not the same at all.

    Args:
        ground: Where it stands; it is put back there.
        reach: How far around.
        loss: At the point itself.
        seed: Of the points.
    """
    here, values = ground.where(), [loss]
    try:
        for unit in _drawn(ground, seed):
            ground.put(here + reach * unit.to(here))
            value, gradient = ground.slope()
            if bool(gradient.any()):
                return False
            values.append(value)
    finally:
        ground.put(here)
    return len(set(values)) > 1


def standing(
    problem: Problem, model: nn.Module, *, examples: Any, dtype: torch.dtype | None, seed: int,
    bound: bool = False,
) -> tuple[ModelGround, Tensor]:  # fmt: skip
    """What `ground_at` gives; of an objective without a gradient, with one of zero, which is its slope.

    Args:
        problem: Whose objective it is.
        model: Where to stand.
        examples: As of `ground_of`.
        dtype: To measure in; if left out, the model's own, and float64 where no gradient flows.
        seed: As of `ground_of`.
        bound: As of `ground_at`.

    Raises:
        ObjectiveError: no gradient flows, and small moves change the loss; and what `ground_at` raises.
    """
    try:
        return ground_at(problem, model, examples=examples, dtype=dtype, seed=seed, bound=bound)
    except ObjectiveError as error:
        if not str(error).startswith(CUT_OFF):
            raise
        ground = _without_gradient(problem, model, error, examples=examples, dtype=dtype, seed=seed)
        return ground, check_ground(ground)


def _without_gradient(
    problem: Problem, model: nn.Module, error: ObjectiveError, *, examples: Any, dtype: torch.dtype | None,
    seed: int,
) -> ModelGround:  # fmt: skip
    ground = ground_of(problem, model, examples=examples, dtype=dtype or torch.float64, seed=seed)
    ground.objective = _Flat(ground.objective)
    here, reach, loss = ground.where(), reach_of(ground), ground.loss()
    changed = 0
    try:
        for unit in _drawn(ground, seed):
            ground.put(here + SMALL * reach * unit.to(here))
            changed += ground.loss() != loss
    finally:
        ground.put(here)
    if changed > SAMPLES // 2:
        raise error
    ground.notes.append(
        f"{CUT_OFF} (argmax, sign, a comparison), and no small move changes the loss: its slope is zero, and "
        "only samples tell; train on a loss that has a slope, such as cross_entropy, and keep this as metric"
    )
    return ground


class _Flat(Objective):
    """An objective with nothing times the weights added, so that it has a gradient, of zero."""

    def __init__(self, other: Objective) -> None:
        self.__dict__ |= other.__dict__

    def trained(self, output: Any, target: Any, args: tuple[Any, ...], model: nn.Module) -> Loss:
        """The same, on which a gradient can be asked for."""
        loss = super().trained(output, target, args, model)
        nothing = sum((0 * p.sum() for p in model.parameters() if p.requires_grad), torch.zeros(()))
        return loss._replace(value=loss.value + nothing)


def _drawn(ground: Ground, seed: int) -> list[Tensor]:
    draw = torch.Generator().manual_seed(seed)
    rows = torch.randn(SAMPLES, ground.size, generator=draw, dtype=torch.float64)
    return [each / length(each) for each in rows]
