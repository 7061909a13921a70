"""Decay and penalties are part of the function that every method goes down on, from any start."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import downslope as ds
from downslope.core import names
from downslope.terrain.methods import KFAC, Method, catalogue
from tests.terrain.methods.grounds import ground

ROWS = [row for row in catalogue() if row.cls.__module__.startswith("downslope.terrain.methods")]
NAMES = [row.name for row in ROWS]
STEPS: dict[str, dict[str, Any]] = {"kfac": {"steps": 100, "damping": 1e-3, "kl_clip": 0.1}}


def data(same: bool = False) -> tuple[Tensor, Tensor]:
    """Noisy classes of four inputs; `same`: forty copies of one row, of which any batch is the whole."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(90, 4, generator=draw, dtype=torch.float64)
    y = (x[:, 0] + torch.randn(90, generator=draw, dtype=torch.float64) > 0).double()
    return (x[:1].expand(40, 4).clone(), y[:1].expand(40).clone()) if same else (x, y)


def above(run: ds.Run, l2: float) -> float:
    """How far the objective of the run's last model lies above the certified minimum."""
    x, y = data()
    model = run.model("last").double()
    weights = sum(p.detach().square().sum().item() for p in model.parameters() if p.dim() > 1)
    loss = nn.functional.cross_entropy(model(x), y.long()).item()
    plain = ds.Problem(model="softmax", objective="cross_entropy", train=(x, y.long()))
    return loss + 0.5 * l2 * weights - ds.solve(plain, l2=l2).objective


@pytest.mark.parametrize(
    ("name", "way"),
    [(name, way) for name in NAMES for way in ("decay", "penalty")]
    + [("lbfgs", "parts"), ("newton", "parts")],
)
def test_decay_and_penalties_are_gone_down_on_from_a_random_start(name: str, way: str) -> None:
    objective = "penalised(cross_entropy, l2=0.5)" if way == "penalty" else "cross_entropy"
    x, y = data()
    problem = ds.Problem(model="softmax", objective=objective, train=(x, y.long()))
    more: dict[str, Any] = {} if way == "penalty" else {"weight_decay": 0.5}
    more |= {"accumulate": 2} if way == "parts" else {}
    recipe = ds.Recipe(optimizer=name, precision="float64", **({"steps": 30} | STEPS.get(name, {}) | more))
    run = ds.fit(problem, recipe, folder=False, progress=False)
    assert above(run, 0.5) < (1e-4 if name == "kfac" else 1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_decay_is_seen_at_the_first_look_of_every_mini_batch(name: str) -> None:
    """All examples are one, so a mini-batch has the minimum of the whole."""
    x, y = data(same=True)
    problem = ds.Problem(
        model=lambda: nn.Linear(4, 1, bias=False), objective="squared_error", train=(x, y[:, None])
    )
    more = {"steps": 40, "batch_size": 10, "weight_decay": 0.5} | STEPS.get(name, {})
    run = ds.fit(
        problem, ds.Recipe(optimizer=name, precision="float64", **more), folder=False, progress=False
    )
    p = run.model("last").weight.detach().double().flatten().clone().requires_grad_()
    loss = nn.functional.mse_loss(x @ p, y) + 0.25 * p.square().sum()
    (slope,) = torch.autograd.grad(loss, p)
    assert float(slope.norm()) < 1e-2


@pytest.mark.parametrize("name", NAMES)
def test_evaluations_are_the_calls_of_the_objective(name: str) -> None:
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randn(30, 3, generator=draw).double(), torch.randn(30, 2, generator=draw).double()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 2)).double()
    calls = [0]

    def forward(*_: Any) -> None:
        calls[0] += 1

    on = ground(model, "squared_error", (x, y))
    on.fixed = True
    model.register_forward_pre_hook(forward)
    cls = names.resolve("optimizer", name)
    method: Method = cls(model.parameters(), **({"damping": 0.1} if cls is KFAC else {}))
    for _ in range(6):
        method.step(on)
    assert method.evaluations == calls[0]


@pytest.mark.parametrize("name", ["natural_gradient", "kfac"])
def test_a_method_that_looks_anew_at_each_step_counts_each(name: str) -> None:
    problem = ds.Problem(model="logistic", objective="logistic", train=data())
    run = ds.fit(problem, ds.Recipe(optimizer=name, steps=6), folder=False, progress=False)
    assert (np.diff(run.history["evaluations"][1:]) >= 1).all()
