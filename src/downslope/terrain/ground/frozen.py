"""What a ground holds still that moves in training, told in words: dropout, statistics, random numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase  # pyright: ignore[reportPrivateUsage]
from torch.nn.modules.dropout import _DropoutNd  # pyright: ignore[reportPrivateUsage]

from downslope.core import randomness
from downslope.terrain.ground.ground import ModelGround
from downslope.terrain.operators.functional import Functional

CLOSE = 1e-5
"""Share of a loss within which two of them are the same: float32 rounds below it."""


def held_still(ground: ModelGround, few: Any) -> list[str]:
    """A sentence for each thing that is held still, or is another one in training.

    Modules of torch are known by their class; what code draws by itself is seen in the loss of some examples,
    which another draw of random numbers then changes.

    Args:
        ground: In the mode in which it is measured.
        few: Some of its examples.
    """
    model, seed = ground.model, ground.still.seed
    drops, norms, training = _drops(model), _norms(model), model.training
    notes: list[str] = []
    if drops and training:
        notes.append(f"dropout is held still, its masks drawn once (seed={seed}): others are another loss")
    elif drops:
        notes.append("dropout is off: with it the loss would be another at every look")
    if norms:
        how = "the statistics of the examples measured on, as in training" if training else (
            "its running statistics, as in prediction"
        )  # fmt: skip
        notes.append(f"{norms} uses {how}")
    if not (drops and training) and _differ(_values(ground, few, training, training)):
        notes.append(
            "the loss draws random numbers (dropout that is always on, noise in model or objective), and is "
            f"held still at one draw (seed={seed}): another draw is another loss"
        )
    elif not (drops or norms or training) and _differ(_values(ground, few, True, False)):
        notes.append("the model computes another loss in training mode: that of prediction is measured")
    return notes


def _drops(model: nn.Module) -> bool:
    """Whether some module drops, or in evaluation mode would drop in training."""
    for each in _moving(model):
        if isinstance(each, (_DropoutNd, nn.MultiheadAttention)) and getattr(each, "p", 0) + getattr(
            each, "dropout", 0
        ):
            return True
        if isinstance(each, nn.RNNBase) and each.dropout and each.num_layers > 1:
            return True
    return False


def _norms(model: nn.Module) -> str:
    """What normalises by running statistics in evaluation mode; "" for nothing."""
    every = (each for each in _moving(model) if isinstance(each, _NormBase))
    found = [each for each in every if each.running_mean is not None]
    if any("InstanceNorm" not in type(each).__name__ for each in found):
        return "batch norm"
    return "instance norm" if found else ""


def _moving(model: nn.Module) -> Iterator[nn.Module]:
    """All modules; in training mode without those that stay in evaluation mode, frozen norms among them."""
    return (each for each in model.modules() if each.training or not model.training)


def _values(ground: ModelGround, few: Any, *modes: bool) -> list[float]:
    """The loss of some examples in each of these modes, each with random numbers of its own."""
    model, found = ground.model, list[float]()
    whole = Functional(model, ground.objective, lambda loss: loss.value, [], [], ground.still)
    kept = [(module, module.training) for module in model.modules()]
    try:
        with suppress(Exception), torch.enable_grad():  # anybody's model, in a mode that was not asked for
            for draw, mode in enumerate(modes):
                model.train(mode)
                moving = {f"inside.{name}": each.clone() for name, each in model.named_buffers()}
                with randomness.seeded(ground.still.seed, "probe", draw):
                    found.append(float(torch.func.functional_call(whole, moving, (few, None)).detach()))
    finally:
        for module, mode in kept:
            module.training = mode
    return found


def _differ(values: list[float]) -> bool:
    """Whether there are two that are not the same; NaN counts as the same."""
    return len(values) == 2 and abs(values[0] - values[1]) > CLOSE * max(map(abs, values))
