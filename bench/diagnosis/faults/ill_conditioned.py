"""Inputs so correlated that standardising their columns does not help: a long narrow valley."""

from __future__ import annotations

import torch
from torch import nn

from bench.diagnosis.base import Base, names
from bench.diagnosis.fault import Setup, Sick, fault
from bench.diagnosis.tasks import Pair, Task


def mixed(condition: float, seed: int) -> Task:
    """Whitened inputs, then stretched along drawn directions: deviations from 1 down to 1 / condition.

    Columns have deviation 1 at the end. The target is a linear function along the narrow directions.
    """
    draw = torch.Generator().manual_seed(seed)
    n, d = 600, 12
    z = torch.randn(n, d, generator=draw)
    basis = torch.linalg.qr(torch.randn(d, d, generator=draw))[0]
    scales = torch.logspace(0, -torch.log10(torch.tensor(condition)).item(), d)
    x = (z * scales) @ basis.T
    x = (x - x.mean(0)) / x.std(0)
    weights = torch.randn(d, 1, generator=draw)
    y = z @ weights
    y = (y + 0.1 * torch.randn(n, 1, generator=draw)) / y.std()

    def part(rows: slice) -> Pair:
        return x[rows], y[rows]

    return Task("narrow", "regression", part(slice(0, 450)), part(slice(450, n)), nn.MSELoss(), "r2", 1)


@fault(
    "ill-conditioned",
    bases=names(task="diabetes friedman product adding", net="mlp mlp-custom rnn-custom"),
    twinned=True,
    grades={"2": 2.0, "30": 30.0, "1000": 1000.0, "1e4": 1e4},
)
def valley(base: Base, condition: float) -> Sick:
    """A linear model, or a network, under gradient descent with momentum."""
    linear = "custom" not in base.name
    recipe = base.recipe.edit(optimizer="sgd", lr=0.03, momentum=0.9, epochs=25, batch_size=64)
    tasks = [mixed(value, base.stream) for value in (condition, 1.0)]
    made = [
        base.problem(task, model=lambda: nn.Linear(12, 1)) if linear else base.problem(task, net="mlp-custom")
        for task in tasks
    ]
    return Sick(made[0], recipe, Setup(made[1], recipe))
