"""Gauss-Newton against closed forms, and its two solvers against one another."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from downslope.core.errors import ModelError
from downslope.terrain.methods.gauss_newton import GaussNewton
from tests.terrain.methods.certified import EVERY, Curve
from tests.terrain.methods.grounds import ground, steps


def test_linear_least_squares_are_solved_in_one_step() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(20, 3).double(), torch.randn(20, 2).double()
    x[:, 1] *= 1e-4  # condition 1e8 of the matrix, whose square a Cholesky factor would see
    model = nn.Linear(3, 2).double()
    method = GaussNewton(model.parameters())
    method.step(ground(model, "squared_error", (x, y)))
    wanted = np.linalg.lstsq(np.column_stack([x.numpy(), np.ones(20)]), y.numpy(), rcond=None)[0]
    np.testing.assert_allclose(model.weight.detach().numpy(), wanted[:3].T, rtol=1e-9)
    np.testing.assert_allclose(model.bias.detach().numpy(), wanted[3], rtol=1e-9)


def test_of_many_solutions_the_nearest_is_taken() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(3, 5).double(), torch.randn(3).double()
    model = nn.Linear(5, 1, bias=False).double()
    before = model.weight.detach().clone()
    GaussNewton(model.parameters()).step(ground(model, "squared_error", (x, y)))
    shortest = torch.linalg.pinv(x) @ (y - x @ before[0])
    sizes = x.norm(dim=0)  # nearest in the unit of each column
    scaled = torch.linalg.pinv(x / sizes) @ (y - x @ before[0]) / sizes
    move = (model.weight - before)[0]
    assert torch.allclose(move, shortest) or torch.allclose(move, scaled)
    torch.testing.assert_close(model(x)[:, 0], y)


def test_a_certified_regression_is_found_from_nearby_in_a_few_steps() -> None:
    given = EVERY["Misra1a"]
    model = Curve(given.function, given.starts[1])
    x, y = (torch.tensor(each, dtype=torch.float64) for each in (given.x, given.y))
    steps(GaussNewton(model.parameters()), ground(model, "squared_error", (x, y)), 8)
    np.testing.assert_allclose(model.b.detach().numpy(), given.parameters, rtol=1e-9)


def test_logistic_regression_is_newton() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(60, 4).double(), (torch.rand(60) < 0.5).double()
    model = nn.Linear(4, 1).double()
    on = ground(model, "logistic", (x, y))
    steps(GaussNewton(model.parameters()), on, 6)
    assert on.slope()[1].norm() < 1e-12


def test_conjugate_gradients_end_where_the_factorisation_ends() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(50, 4).double(), torch.randint(0, 3, (50,))
    ends = []
    for solver in ("dense", "cg"):
        torch.manual_seed(1)
        model = nn.Linear(4, 3).double()
        on = ground(model, "cross_entropy", (x, y))
        steps(GaussNewton(model.parameters(), solver=solver, weight_decay=0.1), on, 12)
        ends.append(on.where())
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-6, atol=1e-8)


def test_a_closure_is_refused() -> None:
    model = nn.Linear(2, 1)
    with pytest.raises(ModelError, match="newton_cg or lbfgs"):
        GaussNewton(model.parameters()).step(lambda: model(torch.ones(3, 2)).square().mean())


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_network_whose_jacobian_is_nearly_singular_is_damped_and_learnt(seed: int) -> None:
    """The undamped step is thousands long there, and a search along it moves by what rounding leaves.

    By hand, with the shortest solution and halving alone, the loss ends at 2 to 3 after 60 steps.
    """
    draw = torch.Generator().manual_seed(1)
    x = torch.rand(200, 2, generator=draw) * 4 - 2
    y = torch.sin(x[:, :1] * 2) + x[:, 1:] ** 2
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(2, 12), nn.Tanh(), nn.Linear(12, 1))
    method = GaussNewton(model.parameters())
    on, said = ground(model, "squared_error", (x, y)), []
    for _ in range(60):
        method.step(on)
        assert method.last is not None
        said.append(method.last.said)
    assert float(nn.functional.mse_loss(model(x), y).detach()) < 0.01
    assert not any("saddle" in each or "converged" in each for each in said)
