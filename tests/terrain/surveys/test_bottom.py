"""A point that looks like a minimum is one only if Newton's step wins nothing."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import downslope as ds
from downslope.terrain.ground import ground_of
from downslope.terrain.surveys.bottom import bottom, newton
from downslope.terrain.surveys.ends import Ends, ends


def badly_scaled(columns: int = 10) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    scale = torch.logspace(0, 4, columns)
    x = torch.randn(400, columns, generator=draw) * scale
    w = torch.randn(columns, generator=draw)
    y = (x / scale @ w)[:, None] + 0.1 * torch.randn(400, 1, generator=draw)
    return x, y


def test_the_floor_of_a_long_valley_far_above_its_bottom_is_a_slope() -> None:
    problem = ds.Problem(model="linear", objective="squared_error", train=badly_scaled())
    run = ds.fit(
        problem, ds.Recipe(optimizer="gd", lr=7e-9, steps=1000), folder=False, progress=False, observe=0
    )
    least = ds.solve(problem)
    found = ds.survey(problem, run, progress=False)
    assert found.loss > 1e4 * least.objective
    assert found.kind == "slope"
    assert ds.survey(problem, least.model(), progress=False).kind == "minimum"


@pytest.mark.parametrize("complete", [True, False])
def test_newtons_step_ends_at_the_bottom_of_a_quadratic(complete: bool) -> None:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(50, 6, generator=draw, dtype=torch.float64) * torch.logspace(0, 2, 6)
    y = torch.randn(50, 1, generator=draw, dtype=torch.float64)
    problem = ds.Problem(model=lambda: nn.Linear(6, 1).double(), objective="squared_error", train=(x, y))
    ground = ground_of(problem, dtype=torch.float64)
    here, (loss, gradient), operator = ground.where(), ground.slope(), ground.hessian()
    found: Ends = ends(operator, gradient)._replace(complete=complete)
    fall, away = bottom(ground, operator, found, gradient, loss)
    least = torch.linalg.lstsq(torch.cat([x, torch.ones(50, 1)], 1), y).solution.flatten()
    assert torch.equal(ground.where(), here)
    assert torch.allclose(here + newton(operator, found, gradient), least, atol=1e-8)
    assert loss - fall == pytest.approx(ds.solve(problem).objective, rel=1e-9)
    assert away == pytest.approx(float((here - least).norm()), rel=1e-6)


def test_a_start_that_is_worse_than_a_constant_output_is_no_measure_of_what_there_is_to_learn() -> None:
    x, y = badly_scaled()
    problem = ds.Problem(model="linear", objective="squared_error", train=(x, y))
    start = ds.survey(problem, progress=False)
    near = ds.survey(problem, ds.solve(problem).model(), progress=False)
    assert start.loss > 1e5
    assert near.scale == pytest.approx(float(y.var(unbiased=False)), rel=0.02)
