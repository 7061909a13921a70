"""The step that threw a run up, beside gradient descent worked out in NumPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import downslope as ds
from downslope.diagnosis.measure.wall import measure

STEEP, LR = 1e5, 0.1


class Ledge(nn.Module):
    """2 exp(-w), and beyond w = 2 a wall."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return 2 * torch.exp(-self.w) + STEEP * torch.relu(self.w - 2) ** 2 + 0 * x


PROBLEM = ds.Problem(
    model=Ledge, objective=lambda z, y: z.mean(), train=(torch.zeros(8, 1), torch.zeros(8, 1))
)
RECIPE = ds.Recipe(optimizer="gd", lr=LR, steps=80)


def loss(w: float) -> float:
    return 2 * math.exp(-w) + STEEP * max(w - 2, 0) ** 2


def slope(w: float) -> float:
    return -2 * math.exp(-w) + 2 * STEEP * max(w - 2, 0)


def test_the_step_and_what_slope_and_curvature_foretold_of_it_are_those_worked_out_by_hand() -> None:
    run = ds.fit(PROBLEM, RECIPE, folder=False, progress=False)
    found = measure(run, PROBLEM, RECIPE)
    assert found is not None
    w = 0.0
    for step in range(1, 80):  # noqa: B007
        after = w - LR * slope(w)
        if loss(after) >= 5 * loss(w):
            break
        w = after
    assert found["step"] == step
    g, curvature = slope(w), 2 * math.exp(-w) + (2 * STEEP if w > 2 else 0.0)
    assert found["loss"] == pytest.approx(loss(w), rel=1e-2)
    assert found["happened"] == pytest.approx(loss(after) - loss(w), rel=2e-2)
    assert found["foretold"] == pytest.approx(-LR * g**2 + LR**2 / 2 * curvature * g**2, rel=2e-2)
    assert found["losses"][1] == pytest.approx(loss(w - LR / 2 * g), rel=2e-2)


def test_a_constraint_of_the_problem_holds_while_the_run_is_trained_again() -> None:
    seen: list[float] = []

    def hold(model: nn.Module) -> None:
        with torch.no_grad():
            model.get_parameter("w").clamp_(max=2.004)
        seen.append(float(model.get_parameter("w").detach()))

    held = PROBLEM.edit(constraint=hold)
    run = ds.fit(held, RECIPE, folder=False, progress=False)
    first = len(seen)
    measure(run, held, RECIPE)
    np.testing.assert_allclose(seen[first : first + 20], seen[:20])


def test_a_run_without_a_leap_that_lasts_has_no_wall() -> None:
    data = ds.data.digits(scale=16)
    calm = ds.Problem(model="softmax", objective="cross_entropy", train=data.train)
    recipe = ds.Recipe(optimizer="sgd", lr=0.1, steps=40)
    assert measure(ds.fit(calm, recipe, folder=False, progress=False), calm, recipe) is None
