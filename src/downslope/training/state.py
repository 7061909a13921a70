"""What an observer of training is handed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from downslope.core.depth import Unit
from downslope.core.loss import Objective
from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.core.run import Run


@dataclass(kw_only=True)
class StepState:
    """Training as it stands after `step` optimizer steps; observers read, and leave everything as it was."""

    run: Run
    problem: Problem
    recipe: Recipe
    model: nn.Module
    optimizer: torch.optim.Optimizer
    objective: Objective
    device: torch.device
    step: int = 0
    epoch: int = 0
    depths: tuple[Unit, ...] = ()
    """Units of the model from the input on, where the recipe tells them apart."""
    augment: Callable[[Any, int, int], Any] | None = None
    """``(batch, epoch, index) -> batch``, where the problem augments its training batches."""
    batch: Any = None
    """The batch of the latest step, on the device; at step 0 the first one of epoch 0."""


OnProbe = Callable[[StepState], None]
