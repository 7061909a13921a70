"""The weights along a training, kept for pictures of its way."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from downslope.core.errors import InputError
from downslope.terrain.hvp import flat

KEPT = 200
"""Points beyond which every second one is dropped."""


class Recorder:
    """Keeps the weights of a run at every so many steps: ``fit(problem, recipe, on_probe=recorder)``.

    It hangs itself to the optimizer at step 0. Where `every` is left out, points are as dense as `KEPT` of
    them allow, and lie evenly however long the run gets.

    Args:
        every: Steps from one point to the next, at least 1; left out, chosen while it runs.

    Attributes:
        points: Flat vectors of the parameters that are trained, on the CPU, in the order of training.
        steps: The step of each.

    Raises:
        InputError: `every` below 1.

    Memory: the weights, once for each point; at most 200 times where `every` is left out.
    """

    def __init__(self, every: int | None = None) -> None:
        if every is not None and every < 1:
            raise InputError(f"every={every}: must be a number of steps, at least 1")
        self.points: list[Tensor] = []
        self.steps: list[int] = []
        self._stride, self._fixed = every or 1, every is not None
        self._params: list[Tensor] = []
        self._taken = 0
        self._handle: Any = None

    def __call__(self, state: Any) -> None:
        """Called by `fit` at its probes; the first is step 0, where it begins."""
        if self._handle is None:
            self._params = [p for p in state.model.parameters() if p.requires_grad]
            self._taken = int(state.step)
            self._keep()
            self._handle = state.optimizer.register_step_post_hook(self._after)

    def __len__(self) -> int:
        return len(self.points)

    def __iter__(self) -> Any:
        return iter(self.points)

    def __getitem__(self, index: int) -> Tensor:
        return self.points[index]

    def _after(self, *_: object) -> None:
        self._taken += 1
        if self._taken % self._stride:
            return
        self._keep()
        if not self._fixed and len(self.points) > KEPT:
            self.points, self.steps = self.points[::2], self.steps[::2]
            self._stride *= 2

    def _keep(self) -> None:
        with torch.no_grad():
            self.points.append(flat([p.detach() for p in self._params]).to("cpu", copy=True))
        self.steps.append(self._taken)
