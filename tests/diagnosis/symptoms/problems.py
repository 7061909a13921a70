"""Small problems that train in a fraction of a second, to put one thing wrong in."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

import downslope as ds
from downslope.core.finding import Finding
from downslope.diagnosis.diagnosis import Diagnosis

Pair = tuple[Tensor, Tensor]


def classes(n: int = 600, features: int = 12, count: int = 4, seed: int = 0) -> tuple[Pair, Pair]:
    """Gaussian clouds, `count` of them, a little apart; three quarters to train on."""
    generator = torch.Generator().manual_seed(seed)
    centres = 1.2 * torch.randn(count, features, generator=generator)
    y = torch.randint(count, (n,), generator=generator)
    x = centres[y] + torch.randn(n, features, generator=generator)
    cut = 3 * n // 4
    return (x[:cut], y[:cut]), (x[cut:], y[cut:])


def numbers(n: int = 600, features: int = 6, seed: int = 0) -> tuple[Pair, Pair]:
    """A smooth, bent function of the first three features, a little noise; targets (n, 1), deviation 1."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, features, generator=generator)
    y = torch.sin(1.5 * x[:, :1]) + 0.5 * x[:, 1:2] * x[:, 2:3] + 0.1 * torch.randn(n, 1, generator=generator)
    y = (y - y.mean()) / y.std()
    cut = 3 * n // 4
    return (x[:cut], y[:cut]), (x[cut:], y[cut:])


class Functional(nn.Module):
    """A custom forward: no activation is a module."""

    def __init__(self, inputs: int, outputs: int, width: int = 32) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(inputs, width), nn.Linear(width, width)
        self.head = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.first(x))
        return self.head(functional.relu(self.second(x)))


def net(inputs: int, outputs: int, *end: nn.Module, width: int = 32) -> nn.Module:
    hidden = [nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()]
    return nn.Sequential(*hidden, nn.Linear(width, outputs), *end)


def problem(data: tuple[Pair, Pair], model: Any, objective: Any, metric: Any, **fields: Any) -> ds.Problem:
    return ds.Problem(model=model, objective=objective, train=data[0], valid=data[1], metric=metric, **fields)


def recipe(**changes: Any) -> ds.Recipe:
    given: dict[str, Any] = {"optimizer": "adam", "lr": 3e-3, "epochs": 25, "batch_size": 32, "seed": 0}
    if "steps" in changes:
        given.pop("epochs")
    return ds.Recipe(**(given | changes))


def diagnosed(task: ds.Problem, how: ds.Recipe) -> Diagnosis:
    """A diagnosis that does not depend on the machine's speed."""
    return ds.diagnose(task, how, budget="2000 steps", progress=False, folder=False)


def found(result: Diagnosis, symptom: str) -> Finding | None:
    """The finding of this id, wherever it stands."""

    def walk(findings: Any) -> Finding | None:
        for each in findings:
            inside = each if each.symptom == symptom else walk(each.consequences)
            if inside is not None:
                return inside
        return None

    return walk(result.findings)
