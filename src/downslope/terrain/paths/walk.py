"""One optimizer on its way over a function, step by step."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from downslope.core import names
from downslope.core.errors import DownslopeError, RecipeError
from downslope.terrain.functions import Function
from downslope.terrain.ground import Ground
from downslope.terrain.hvp import length
from downslope.terrain.methods.method import Method
from downslope.terrain.slices.slice import Floats

Status = Literal["arrived", "going on", "diverged", "stuck", "left", "failed"]

FAR = 1000.0
"""Widths of the domain from its middle at which a path counts as diverged."""


class Walked(NamedTuple):
    """A walk that is over."""

    at: Floats
    """Points, shape (steps + 1, dimension)."""
    values: Floats
    """Of the function there."""
    evaluations: tuple[int, ...]
    """Losses, gradients and products up to each point."""
    status: Status
    """How it ended."""
    error: Exception | None = None
    """Why it failed."""
    interrupted: bool = False
    """Whether Ctrl-C ended it."""


def walked(
    function: Function, name: str, settings: Mapping[str, Any], start: Sequence[float], steps: int
) -> Walked:
    """Walk `steps` steps at most.

    Raises:
        RecipeError: settings that the optimizer refuses.
    """
    walk = Walk(function, name, settings, start)
    status: Status = "going on"
    failure: Exception | None = None
    for _ in range(steps):
        try:
            ended = walk.step()
        except (DownslopeError, ArithmeticError, RuntimeError, ValueError) as error:
            ended, failure = "failed", error
        except KeyboardInterrupt:
            return Walked(
                np.array(walk.at), np.array(walk.values), tuple(walk.evaluations), status, None, True
            )
        if ended is not None:
            status = ended
            break
    return Walked(np.array(walk.at), np.array(walk.values), tuple(walk.evaluations), status, failure)


class Walk:
    """One optimizer on its way over a function."""

    def __init__(
        self, function: Function, name: str, settings: Mapping[str, Any], start: Sequence[float]
    ) -> None:
        self.function = function
        kind: Any = names.resolve("optimizer", name)
        self.point: Tensor = torch.nn.Parameter(torch.tensor(start, dtype=torch.float64))
        self.ground: Any = None
        if issubclass(kind, Method):
            self.ground = Ground.of_closure(lambda: function(self.point), [self.point])
        try:
            self.optimizer: Any = kind([self.point], **settings)
        except DownslopeError:
            raise
        except (TypeError, ValueError) as error:
            raise RecipeError(f"optimizer {name}: {str(error).splitlines()[0]}") from None
        low, high = np.array(function.domain).T
        self.middle, self.wide = (low + high) / 2, float((high - low).max())
        self.at = [np.array(start)]
        self.values = [function.at(*start)]
        self.evaluations = [0]

    def step(self) -> Status | None:
        """One step; how it ends, where it does."""
        spent, ended = self._one_gradient() if self.ground is None else self._searched()
        if ended == "arrived" and self.ground is None:
            return ended  # nothing was moved
        here = self.point.detach().numpy().copy()
        self.at.append(here)
        self.values.append(float(self.function(self.point.detach())))
        self.evaluations.append(self.evaluations[-1] + spent)
        away = float(np.abs(here - self.middle).max()) if np.isfinite(here).all() else math.inf
        if self.function.infimum == -math.inf and self.wide < away < math.inf and self._lower():
            return "left"
        return "diverged" if away > FAR * self.wide else ended

    def _lower(self) -> bool:
        return self.values[-1] < self.values[0]

    def _one_gradient(self) -> tuple[int, Status | None]:
        self.optimizer.zero_grad()
        value = self.function(self.point)
        value.backward()
        slope = self.point.grad
        if slope is not None and length(slope) <= 1e-12 * (1 + abs(float(value.detach()))):
            return 0, "arrived"
        if not getattr(self.optimizer, "needs_closure", False):
            self.optimizer.step()
            return 1, None
        self.optimizer.step(self._again)
        return 2, None

    def _again(self) -> Tensor:
        """A second look of one step, at another point."""
        value = self.function(self.point)
        value.backward()
        return value

    def _searched(self) -> tuple[int, Status | None]:
        self.optimizer.step(self.ground)
        last = self.optimizer.last
        spent = int(last.evaluations + last.products)
        if last.converged:
            return spent, "arrived"
        return spent, None if last.accepted else "stuck"
