"""A small search that tests share: three inputs, a linear target, one rate."""

from __future__ import annotations

import torch
from torch import nn

from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.core.space import log

torch.manual_seed(0)
X = torch.randn(24, 3)
Y = X @ torch.tensor([[1.0], [-2.0], [0.5]]) + 0.3
LR = {"lr": log(1e-4, 0.5)}


def sgd(**length) -> Recipe:
    return Recipe(optimizer="sgd", batch_size=12, seed=4, **length)


def _linear(width: int = 0) -> nn.Module:
    return (
        nn.Linear(3, 1) if not width else nn.Sequential(nn.Linear(3, width), nn.Tanh(), nn.Linear(width, 1))
    )


def problem(**changes) -> Problem:
    given = {"model": _linear, "objective": "mse", "train": (X, Y), "valid": (X[:12], Y[:12])}
    return Problem(**given | changes)
