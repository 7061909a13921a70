"""Objectives of one's own, whose bend in the outputs is known by construction."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import downslope as ds
from downslope.terrain.convexity.calculus import bend_of

DRAW = torch.Generator().manual_seed(0)
X = torch.randn(30, 4, generator=DRAW, dtype=torch.float64)
Y = torch.randn(30, 2, generator=DRAW, dtype=torch.float64)


class Minus(nn.Module):
    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        return -((output - target) ** 2).mean()


TOLD: list[tuple[Any, str | None]] = [
    (lambda o, t: -functional.mse_loss(o, t), "concave"),
    (lambda o, t: 3 - ((o - t) ** 2).sum(), "concave"),
    (Minus(), "concave"),
    (lambda o, t: ((o - t) ** 2).mean() + 0.1 * o.abs().sum() - 2 * o.sum(), "convex"),
    (lambda o, t: -2 * functional.huber_loss(o, t, delta=0.5), "concave"),
    (lambda o, t: functional.mse_loss(o, t) / 4 - 1, "convex"),
    (lambda o, t: o.mean(), "affine"),
    (lambda o, t: functional.mse_loss(o, t) - functional.l1_loss(o, t), None),
    (lambda o, t: ((o - t) ** 2).mean() ** 2, None),
    (lambda o, t: (o * t).mean(), None),
    (lambda o, t: (o * o).mean(), None),
    (lambda o, t: ((o - t) ** 3).mean(), None),
    (lambda o, t: 1 / functional.mse_loss(o, t), None),
    (lambda o, t: functional.cross_entropy(o, t) + 1, None),
    (lambda o, t: torch.log(functional.mse_loss(o, t)), None),
    (lambda o, t: functional.mse_loss(o, o.detach()), None),
    (lambda o, t: functional.mse_loss(torch.tanh(o), t), None),
    (lambda o, t: functional.mse_loss(t, o) if o.sum() > 0 else o.sum(), None),
    (lambda o, t: functional.mse_loss(o.add_(o.abs()), t), None),
    (lambda o, t: (o.mul_(o), (o - t).abs().mean())[1], None),
    (lambda o, t: o[:, o.argmax(1)].sum(), None),
    (lambda o, t: functional.l1_loss(o, t) + 0, "convex"),
    (lambda o, t: torch.add(o, o.abs(), alpha=-1).sum(), None),
    (lambda o, t: (2 ** (o - t)).sum(), None),
]


@pytest.mark.parametrize(("objective", "bend"), TOLD, ids=range(len(TOLD)))
def test_what_the_rules_tell_is_so_and_what_they_do_not_name_is_left_open(
    objective: Any, bend: str | None
) -> None:
    assert bend_of(objective) == bend


@pytest.mark.parametrize("objective", [each for each, bend in TOLD if bend in ("convex", "concave")])
def test_chords_of_what_is_told_run_on_the_right_side(objective: Any) -> None:
    sign = 1 if bend_of(objective) == "convex" else -1
    for _ in range(50):
        a, b = torch.randn(2, 5, 3, generator=DRAW, dtype=torch.float64)
        t = torch.randn(5, 3, generator=DRAW, dtype=torch.float64)
        middle = objective((a + b) / 2, t)
        assert sign * float((objective(a, t) + objective(b, t)) / 2 - middle) >= -1e-12


def test_a_concave_objective_that_is_maximised_is_a_convex_problem() -> None:
    problem = ds.Problem(
        model=nn.Linear(4, 2).double(),
        objective=lambda o, t: -functional.mse_loss(o, t),
        train=(X, Y),
        maximize=True,
    )
    found = ds.convexity(problem)
    assert (found.convex, found.proved, found.by) == (True, True, "structure")
    assert "minus objective" in found.why
    terrain = ds.survey(problem, progress=False)
    assert terrain.convexity is not None
    assert terrain.convexity.convex
    turned = ds.convexity(problem.edit(objective=lambda o, t: 2 * functional.mse_loss(o, t)))
    assert (turned.convex, turned.by) == (False, "curvature")


def test_an_objective_of_ones_own_on_a_net_is_not_proved_convex() -> None:
    net = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)).double()
    own = ds.Problem(model=net, objective=lambda o, t: ((o - t) ** 2).mean(), train=(X, Y))
    assert not ds.convexity(own).convex
    assert ds.convexity(own.edit(model=nn.Linear(4, 2).double())).proved


def test_a_run_calls_an_objective_of_ones_own_no_more_often_for_it() -> None:
    called: list[Any] = []

    def counted(output: Tensor, target: Tensor) -> Tensor:
        called.append(type(output))
        return ((output - target) ** 2).mean()

    problem = ds.Problem(model=nn.Linear(4, 2).double(), objective=counted, train=(X, Y))
    ds.fit(problem, ds.Recipe(optimizer="gd", lr=0.01, steps=2), folder=False, progress=False)
    assert {*called} <= {Tensor}
