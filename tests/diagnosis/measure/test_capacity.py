"""What a model can say, against the closed form of least squares."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from downslope.diagnosis.measure.capacity import measure
from tests.diagnosis.measure.made import ended

DRAW = torch.Generator().manual_seed(0)
X = torch.randn(200, 5, generator=DRAW) * torch.tensor([10.0, 1.0, 1.0, 0.3, 0.1])
Y = torch.sin(X[:, 1:2]) + X[:, 2:3] + 3.0 + 0.2 * torch.randn(200, 1, generator=DRAW)


def test_a_linear_model_is_taken_to_its_least_squares_however_ill_conditioned() -> None:
    run = ended(nn.Linear(5, 1), (X, Y), "mse")
    design = torch.cat([X, torch.ones(200, 1)], 1).double()
    solution = torch.linalg.lstsq(design, Y.double()).solution
    least = float((design @ solution - Y.double()).square().mean())
    found = measure(run, run.the_problem())
    assert found is not None
    assert found["loss"] == pytest.approx(least, rel=0.05)
    assert found["loss"] >= least * (1 - 1e-5)


def test_the_run_keeps_its_weights() -> None:
    run = ended(nn.Linear(5, 1), (X, Y), "mse")
    before = {name: value.clone() for name, value in run.state("last").items()}
    measure(run, run.the_problem())
    assert all(torch.equal(value, before[name]) for name, value in run.state("last").items())


def test_a_maximised_objective_is_taken_up() -> None:
    def closeness(output: Tensor, target: Tensor) -> Tensor:
        return -(output - target).square().mean()

    run = ended(nn.Linear(5, 1), (X[:, 1:2].expand(-1, 5), Y), closeness, maximize=True)
    least = ended(nn.Linear(5, 1), (X[:, 1:2].expand(-1, 5), Y), "mse")
    up, down = measure(run, run.the_problem()), measure(least, least.the_problem())
    assert up is not None
    assert down is not None
    assert up["loss"] == pytest.approx(-down["loss"], rel=1e-3)


def test_an_objective_that_is_never_finite_gives_no_answer() -> None:
    def never(output: Tensor, target: Tensor) -> Tensor:
        return (output - target).square().mean() * math.nan

    run = ended(nn.Linear(5, 1), (X, Y), never)
    assert measure(run, run.the_problem()) is None
