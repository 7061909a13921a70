"""From a problem and a model to the ground it stands on: a copy, frozen so that there is one function."""

from __future__ import annotations

import copy
from typing import Any, Literal

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage]
from torch.nn.modules.dropout import _DropoutNd  # pyright: ignore[reportPrivateUsage]

from downslope.core import batches
from downslope.core.errors import InputError
from downslope.core.fixed_sample import sample
from downslope.core.loss import Objective
from downslope.core.problem import Problem
from downslope.core.run import Run
from downslope.terrain.ground import ModelGround, Piece

EXAMPLES = 1024
"""Examples on which the terrain is measured unless told otherwise."""


def ground_of(
    problem: Problem,
    model: nn.Module | Run | None = None,
    *,
    examples: int | Literal["all"] = EXAMPLES,
    dtype: torch.dtype | None = None,
    seed: int = 0,
) -> ModelGround:
    """The training loss of `problem` around `model`, in evaluation mode; the model itself is left alone.

    Args:
        problem: What is learnt.
        model: Where to stand; a Run stands for its last model, None for the start of `seed`.
        examples: Training examples that the loss is taken over, a fixed draw of them, or all.
        dtype: Of weights and data; the model's own if left out.
        seed: Of the start, where no model is given.

    Returns:
        The ground; `notes` says what was frozen.

    Raises:
        InputError: `examples` outside its domain.
    """
    if examples != "all" and (not isinstance(examples, int) or examples < 1):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InputError(f"examples={examples!r}: must be a number of examples, at least 1, or 'all'")
    given = problem.build(seed) if model is None else model.model("last") if isinstance(model, Run) else model
    notes = _frozen(given)
    held = copy.deepcopy(given).eval().to(dtype=dtype) if dtype else copy.deepcopy(given).eval()
    working = dtype or next((p.dtype for p in held.parameters() if p.is_floating_point()), torch.float32)
    device = next((p.device for p in held.parameters()), torch.device("cpu"))
    count = (problem.train_source.size or 10**9) if examples == "all" else examples
    batch: Any = batches.to(sample(problem.train_source, count, working), device, working)
    ground = ModelGround(held, Objective(problem), [Piece(batch, 1.0)])
    ground.notes += notes
    return ground


def _frozen(model: nn.Module) -> list[str]:
    """What evaluation mode holds still."""
    notes: list[str] = []
    if any(isinstance(each, _DropoutNd) and each.training and each.p for each in model.modules()):
        notes.append("dropout is off: with it the loss would be another at every look")
    if any(isinstance(each, _BatchNorm) and each.training for each in model.modules()):
        notes.append("batch norm uses its running statistics, as in prediction")
    return notes
