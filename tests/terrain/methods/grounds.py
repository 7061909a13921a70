"""Models on data as grounds, for methods that look into the model."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

import downslope as ds
from downslope.core.loss import Objective
from downslope.terrain.ground import ModelGround, Piece


def ground(model: nn.Module, objective: Any, batch: Any, *, seed: int = 0, **settings: Any) -> ModelGround:
    """The ground of `model` on one batch, in the mode that it is in."""
    problem = ds.Problem(model=lambda: model, objective=objective, train=batch, **settings)
    return ModelGround(model, Objective(problem), [Piece(batch, 1.0)], seed=seed)


def steps(method: Any, on: ModelGround, count: int) -> list[float]:
    """Losses before each of `count` steps."""
    return [method.step(on) for _ in range(count)]


def flat_outputs(model: nn.Module, x: Tensor) -> Tensor:
    """What the model puts out, without a graph."""
    return model(x).detach().flatten()
