"""Tanh and sigmoid units that start at their bounds, where they have no slope."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from bench.diagnosis.base import Base, names
from bench.diagnosis.fault import Setup, Sick, fault


def pushed(by: float) -> Callable[[nn.Module], None]:
    """Hidden biases to `by` and minus `by`, in turns."""

    def change(model: nn.Module) -> None:
        for layer in [m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d)][:-1]:
            assert layer.bias is not None
            with torch.no_grad():
                layer.bias[::2] += by
                layer.bias[1::2] -= by

    return change


@fault(
    "saturated-units",
    way="tanh",
    bases=names(task="digits wine cancer friedman moons labels images table"),
    grades={"0.5": 0.5, "4": 4.0, "20": 20.0},
    twinned=True,
)
def tanh(base: Base, by: float) -> Sick:
    twin = Setup(base.problem(act="tanh"), base.recipe)
    return Sick(base.problem(act="tanh", change=pushed(by)), base.recipe, twin)


@fault(
    "saturated-units",
    way="weights",
    also=("init-scale",),
    bases=names(task="digits wine friedman", net="mlp mlp-custom"),
    grades={"x2": 2.0, "x30": 30.0, "x300": 300.0},
)
def weights(base: Base, factor: float) -> Sick:
    """The same by large weights: its cause is the scale of the start."""

    def change(model: nn.Module) -> None:
        for layer in [m for m in model.modules() if isinstance(m, nn.Linear)][:-1]:
            layer.weight.data.mul_(factor)

    twin = Setup(base.problem(act="tanh"), base.recipe)
    return Sick(base.problem(act="tanh", change=change), base.recipe, twin)
