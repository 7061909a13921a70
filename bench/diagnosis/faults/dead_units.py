"""ReLU units that no example switches on: biases far below zero from the start."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from bench.diagnosis.base import Base, names
from bench.diagnosis.fault import Sick, fault


def lowered(share: float, by: float) -> Callable[[nn.Module], None]:
    """The biases of a share of the units of every hidden layer go down."""

    def change(model: nn.Module) -> None:
        hidden = [m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d)][:-1]
        for layer in hidden:
            assert layer.bias is not None
            with torch.no_grad():
                layer.bias[: round(share * len(layer.bias))] -= by

    return change


@fault(
    "dead-units",
    bases=names(task="digits wine cancer diabetes friedman moons labels table images"),
    grades={"a fifth": 0.2, "half": 0.5, "97 %": 0.97, "all": 1.0},
)
def from_the_start(base: Base, share: float) -> Sick:
    return Sick(base.problem(change=lowered(share, 30.0)), base.recipe)
