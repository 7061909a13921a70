"""The step that threw a run up, taken once more: what slope and curvature foretold of it, and what happened.

The run is trained again up to there, from the same seed on the same batches, and the loss is looked at on
examples that stay the same: a batch that is hard by itself does not raise it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from downslope.core.errors import DownslopeError
from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.core.run import Run
from downslope.diagnosis.swing import LEAP, leap
from downslope.terrain.expansion import along
from downslope.terrain.ground import ModelGround, ground_of
from downslope.terrain.hvp import length
from downslope.training.fit import fit
from downslope.training.hushed import hushed

EXAMPLES = 256
"""Examples on which the loss is looked at."""

AROUND = 4
"""Steps before the leap of the batches' loss among which the one that did it is sought."""

PARTS = (0.25, 0.5, 0.75, 1.0)
"""Of the step, at which the loss is measured."""


class _SeenError(DownslopeError):
    """Enough of the run was trained."""


class _Look:
    """Stands for the problem's constraint, keeps the weights of some steps, and ends the run after them."""

    def __init__(self, own: Any, wanted: Sequence[int]) -> None:
        self.own, self.wanted, self.done = own, set(wanted), 0
        self.kept: dict[int, Tensor] = {}

    def prepare(self, model: nn.Module) -> None:
        """A fresh model."""
        if self.own is not None:
            getattr(self.own, "prepare", self.own)(model)
        self.done = 0
        self._keep(model)

    def __call__(self, model: nn.Module) -> None:
        """After each step.

        Raises:
            _SeenError: what was wanted is kept.
        """
        if self.own is not None:
            self.own(model)
        self.done += 1
        self._keep(model)
        if self.done >= max(self.wanted):
            raise _SeenError("")

    def _keep(self, model: nn.Module) -> None:
        if self.done in self.wanted:
            parts = [p.detach().reshape(-1) for p in model.parameters() if p.requires_grad]
            self.kept[self.done] = torch.cat(parts).clone()


def measure(run: Run, problem: Problem, recipe: Recipe) -> dict[str, Any] | None:
    """The leap of a run's loss, step by step on fixed examples.

    Returns:
        ``step`` (1-based, the first that raised the loss `LEAP`-fold, or else the one that raised it most),
        ``loss`` before it, ``happened`` (what it changed), ``foretold`` (the same by slope and curvature),
        ``slope``, ``curvature``, ``share`` (its length in that of the weights), ``losses`` along it, at
        `PARTS`; None stands for what is beyond all numbers. None for a run without a leap that lasts, or one
        that averages its weights.
    """
    found = leap(run)
    if found is None or not found.lasts or recipe.average is not None:
        return None
    look = _Look(problem.constraint, range(max(found.step - AROUND, 0), found.step + 1))
    with suppress(_SeenError), hushed():
        fit(problem.edit(constraint=look), recipe, folder=False, progress=False, observe=0)
    ground = ground_of(problem, problem.build(recipe.seed, recipe.init), examples=EXAMPLES)
    if any(len(each) != ground.size for each in look.kept.values()):
        return None
    return _highest(ground, look.kept)


def _highest(ground: ModelGround, kept: dict[int, Tensor]) -> dict[str, Any] | None:
    """The step between two kept places that raised the loss most."""
    losses: dict[int, float] = {}
    for count, place in kept.items():
        ground.put(place)
        loss = ground.loss()
        losses[count] = loss if math.isfinite(loss) else math.inf
    rises = {
        count: losses[count] - losses[count - 1]
        for count in losses
        if math.isfinite(losses.get(count - 1, math.inf))
    }
    if not rises:
        return None
    thrown = [count for count in sorted(rises) if losses[count] >= LEAP * abs(losses[count - 1])]
    at = thrown[0] if thrown else max(rises, key=lambda count: rises[count])
    ground.put(kept[at - 1])
    step = kept[at] - kept[at - 1]
    if not bool(step.isfinite().all()):
        return None
    seen = along(ground, PARTS, step)
    values = [losses[at - 1] + each.actual for each in seen.steps]
    return {
        "step": at, "loss": losses[at - 1], "happened": _finite(rises[at]),
        "foretold": _finite(seen.steps[-1].predicted), "slope": _finite(seen.slope),
        "curvature": _finite(seen.curvature),
        "share": length(step.double()) / max(length(kept[at - 1].double()), 1e-300),
        "losses": [_finite(each) for each in values],
    }  # fmt: skip


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
