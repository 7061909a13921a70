"""Levenberg-Marquardt on regressions of which the answer is certified, beside SciPy's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import least_squares
from torch import nn

from downslope.core.errors import ModelError, RecipeError
from downslope.terrain.methods.levenberg_marquardt import LevenbergMarquardt
from tests.terrain.methods.certified import EVERY, Certified, Curve
from tests.terrain.methods.grounds import ground


def fitted(given: Certified, start: int, count: int = 200, **settings: object) -> LevenbergMarquardt:
    model = Curve(given.function, given.starts[start])
    method = LevenbergMarquardt(model.parameters(), **settings)  # type: ignore[arg-type]
    x, y = (torch.tensor(each, dtype=torch.float64) for each in (given.x, given.y))
    on = ground(model, "squared_error", (x, y))
    on.fixed = True
    for _ in range(count):
        method.step(on)
        if method.last is not None and method.last.converged:
            break
    return method


def digits(method: LevenbergMarquardt, given: Certified) -> float:
    """Correct digits of the worst parameter."""
    found = method.param_groups[0]["params"][0].detach().numpy()
    return float(-np.log10(np.abs(found / np.array(given.parameters) - 1).max()))


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("Misra1a", 0),
        ("Misra1a", 1),
        ("Thurber", 0),
        ("Thurber", 1),
        ("MGH09", 0),
        ("MGH09", 1),
        ("MGH10", 1),
    ],
)
def test_certified_parameters_are_found_to_seven_digits(name: str, start: int) -> None:
    given = EVERY[name]
    method = fitted(given, start)
    assert digits(method, given) > 7
    assert method.last is not None
    assert method.last.loss * len(given.x) == pytest.approx(given.squares, rel=1e-9)


def test_a_hard_start_takes_fewer_evaluations_than_scipy() -> None:
    """Both with exact derivatives; MINPACK takes 518 evaluations from the far start."""
    given = EVERY["MGH09"]
    x = torch.tensor(given.x, dtype=torch.float64)
    found = least_squares(
        lambda b: given.function(torch.tensor(b), x).numpy() - np.array(given.y),
        given.starts[0],
        jac=lambda b: torch.func.jacrev(lambda b: given.function(b, x))(torch.tensor(b)).numpy(),
        method="lm",
        xtol=1e-10, ftol=1e-10, gtol=1e-10,
    )  # fmt: skip
    method = fitted(given, 0)
    assert method.evaluations <= found.nfev
    assert digits(method, given) > 7


def test_a_far_start_that_scaling_by_the_diagonal_loses_is_found_without() -> None:
    given = EVERY["BoxBOD"]
    assert digits(fitted(given, 0, scaling="identity"), given) > 7
    assert digits(fitted(given, 1), given) > 7


def test_of_another_objective_it_is_the_damped_newton_step_of_a_linear_model() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(40, 3).double(), torch.randint(0, 2, (40,)).double()
    model = nn.Linear(3, 1).double()
    on = ground(model, "logistic", (x, y))
    before, (_, gradient) = on.where(), on.slope()
    hessian = torch.stack([on.hessian().product(e) for e in torch.eye(4, dtype=torch.float64)])
    LevenbergMarquardt(model.parameters(), damping=0.5, scaling="identity").step(on)
    shift = 0.5 * hessian.diagonal().max() * torch.eye(4, dtype=torch.float64)
    torch.testing.assert_close(on.where() - before, -torch.linalg.solve(hessian + shift, gradient))


def test_conjugate_gradients_and_a_penalty_reach_the_same_minimum() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(30, 4).double(), torch.randn(30, 2).double()
    found = []
    for settings in ({"solver": "cg"}, {"solver": "dense"}):
        torch.manual_seed(1)
        model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)).double()
        method = LevenbergMarquardt(model.parameters(), weight_decay=0.1, **settings)  # type: ignore[arg-type]
        on = ground(model, "squared_error", (x, y))
        for _ in range(40):
            method.step(on)
        _, gradient = on.slope()
        assert gradient.norm() < 1e-3
        found.append(on.loss())
    assert found[0] == pytest.approx(found[1], rel=1e-6)


def test_a_closure_and_no_damping_are_refused_in_one_line() -> None:
    model = nn.Linear(2, 1)
    with pytest.raises(ModelError, match="hides the outputs"):
        LevenbergMarquardt(model.parameters()).step(lambda: model(torch.ones(3, 2)).square().mean())
    with pytest.raises(RecipeError, match="damping=0"):
        LevenbergMarquardt(model.parameters(), damping=0.0)


@pytest.mark.parametrize("scaling", ["more", "marquardt"])
def test_a_parameter_of_a_small_unit_is_damped_in_its_own(scaling: str) -> None:
    """Its column is 1e-9 of the other's, whose square is below the rounding of the other's square."""
    torch.manual_seed(0)
    x = torch.randn(30, 2).double() * torch.tensor([1.0, 1e-9])
    y = x @ torch.tensor([[2.0], [3e9]]).double()
    model = nn.Linear(2, 1, bias=False).double()
    method = LevenbergMarquardt(model.parameters(), scaling=scaling)
    on = ground(model, "squared_error", (x, y))
    for _ in range(8):
        method.step(on)
    np.testing.assert_allclose(model.weight.detach().numpy(), [[2.0, 3e9]], rtol=1e-6)
