"""How methods end: at rounding, at a saddle, on ground without curvature, on ground without a bottom."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import Tensor, nn

import downslope as ds
from downslope.core import names
from downslope.core.errors import ObjectiveError
from downslope.terrain.ground import Ground
from downslope.terrain.methods import LBFGS, Method, Newton, SaddleFreeNewton, conjugate_gradients
from downslope.terrain.methods.dense import descent
from tests.terrain.methods.problems import Path, rosenbrock
from tests.terrain.methods.test_convex_optima import OPTIMA, logistic

LEAVES = ["newton", "trust_region", "saddle_free_newton", "newton_cg"]
STAYS = ["nonlinear_cg", "lbfgs", "coordinate_descent", "block_coordinate_descent"]
MODELS = ["gauss_newton", "levenberg_marquardt", "hessian_free"]


class Point(nn.Module):
    """A function of two parameters as a model, for methods that look into one."""

    def __init__(self, start: list[float]) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(start, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.w.expand(len(x), -1)


def run(f: Any, start: list[float], name: str, steps: int = 40) -> ds.Run:
    x = torch.zeros(2, 1, dtype=torch.float64)
    given = ds.Problem(model=lambda: Point(start), objective=lambda z, y: f(z[0]), train=(x, x[:, 0]))
    recipe = ds.Recipe(optimizer=name, steps=steps, precision="float64")
    return ds.fit(given, recipe, folder=False, progress=False)


def said(found: ds.Run) -> str:
    return " | ".join(each["said"] for each in found.facts.get("method", []))


def linear() -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(60, 3, generator=draw, dtype=torch.float64)
    return x, 150 + x @ torch.tensor([[3.0], [-2.0], [1.0]]).double() + torch.randn(60, 1, generator=draw)


@pytest.mark.parametrize("name", ["newton", "saddle_free_newton", "gauss_newton"])
def test_a_loss_without_curvature_is_gone_down_along_its_gradient(name: str) -> None:
    x, y = linear()
    given = ds.Problem(model=lambda: nn.Linear(3, 1), objective="absolute_error", train=(x, y))
    recipe = ds.Recipe(optimizer=name, steps=60, precision="float64")
    found = ds.fit(given, recipe, folder=False, progress=False)
    assert found.summary["train_loss"] < 1.5  # from 150; the median's is about 0.8
    assert "no curvature along the gradient" in said(found)


@pytest.mark.parametrize("method", [Newton, SaddleFreeNewton])
def test_no_word_of_convergence_where_the_loss_is_a_plane(method: type[Method]) -> None:
    path = Path(lambda p: p.sum(), [1.0, 1.0], method, 10)
    assert len(path.losses) == 11
    assert path.losses[-1] < -1e3


def test_half_curved_ground_is_solved_where_it_is_curved_and_walked_where_it_is_not() -> None:
    path = Path(lambda p: (p[0] - 3).square() + (p[1] - 1).abs(), [0.0, 40.0], Newton, 60)
    np.testing.assert_allclose(path.x, [3.0, 1.0], atol=1e-3)


@pytest.mark.parametrize("name", STAYS + MODELS)
def test_an_end_at_a_saddle_is_called_one(name: str, caplog: pytest.LogCaptureFixture) -> None:
    found = run(lambda p: p[0] ** 2 - p[1] ** 2 + 0.1 * p[1] ** 4, [0.0, 0.0], name)
    assert "stands at a saddle (smallest eigenvalue -2)" in said(found)
    assert any("trust-region" in each.message for each in caplog.records)


@pytest.mark.parametrize("name", LEAVES)
def test_a_saddle_is_left_along_its_negative_curvature(name: str) -> None:
    found = run(lambda p: p[0] ** 2 - p[1] ** 2 + 0.1 * p[1] ** 4, [0.0, 0.0], name)
    assert found.summary["train_loss"] == pytest.approx(-2.5)


def test_plain_newton_says_that_it_stands_at_a_saddle() -> None:
    path = Path(lambda p: p[0] ** 2 - p[1] ** 2, [1.0, 1.0], Newton, 5, line_search=None)
    assert path.method.last is not None
    assert "saddle" in path.method.last.said


@pytest.mark.parametrize("name", [each for each in LEAVES + STAYS + MODELS if each != "trust_region"])
def test_a_loss_without_a_bottom_is_told_and_not_called_converged(name: str) -> None:
    found = run(lambda p: p[0] ** 2 - p[1] ** 2, [1.0, 1.0], name)
    assert found.status != "converged"
    assert "falls without bound" in said(found)


def test_an_indefinite_matrix_is_not_called_singular() -> None:
    g = torch.ones(2, dtype=torch.float64)
    kinds = [
        descent(torch.diag(torch.tensor(each).double()), g).said("it") for each in ([2.0, -2.0], [2.0, 0.0])
    ]
    assert kinds[0] == "it is indefinite (smallest eigenvalue -2): damped by 4"
    assert "indefinite" not in kinds[1]
    assert "indefinite" in said(run(lambda p: p[0] ** 2 - p[1] ** 2, [1.0, 1.0], "gauss_newton", 2))


def test_newton_ends_when_loss_and_gradient_are_at_rounding() -> None:
    path = Path(logistic(1e-2), np.zeros(31), Newton, 60)
    assert path.losses[-1] - OPTIMA[1e-2] < 1e-12
    assert len(path.losses) <= 11
    ols = Path(lambda p: (p - torch.arange(1.0, 4.0)).square().sum() + 1, np.zeros(3), Newton, 60)
    assert len(ols.losses) <= 3


def test_a_direction_whose_square_is_zero_ends_conjugate_gradients() -> None:
    tiny = torch.full((3,), 1e-24)
    solved = conjugate_gradients(lambda v: v, tiny, tol=0.0, precondition=lambda r: r * 1e20)
    assert bool(torch.isfinite(solved.step).all())


def test_hessian_free_goes_to_the_bottom_of_a_kink() -> None:
    draw = torch.Generator().manual_seed(0)
    x, w = torch.randn(100, 5, generator=draw), torch.randn(5, 1, generator=draw)
    given = ds.Problem(model=lambda: nn.Linear(5, 1), objective="absolute_error", train=(x, x @ w))
    found = ds.fit(given, ds.Recipe(optimizer="hessian_free", steps=300), folder=False, progress=False)
    assert found.summary["train_loss"] < 1e-2


@pytest.mark.parametrize("name", ["lbfgs", "nonlinear_cg"])
def test_a_ground_handed_over_again_is_not_looked_at_again(name: str) -> None:
    """A closure may be on another batch, so it is; a ground says that it is the same function."""
    calls: list[int] = []
    for of_ground in (False, True):
        p, count = nn.Parameter(torch.tensor([-1.2, 1.0], dtype=torch.float64)), [0]

        def closure(p: Any = p, count: Any = count) -> Tensor:
            count[0] += 1
            return rosenbrock(p)

        method = names.resolve("optimizer", name)([p])
        ground = Ground.of_closure(closure, [p])
        for _ in range(30):
            method.step(ground if of_ground else closure)
        calls.append(count[0])
        assert method.evaluations == count[0]
    assert calls[1] == calls[0] - 29


def test_lbfgs_on_a_ground_takes_the_evaluations_of_fit() -> None:
    path = Path(rosenbrock, [-1.2, 1.0], LBFGS, 100, gtol=1e-8)
    assert path.method.evaluations <= 48  # SciPy's L-BFGS-B: 46


@pytest.mark.parametrize("lowest", [-1.0, -0.01])
@pytest.mark.parametrize("top", [1.0, 100.0])
def test_one_eigenvalue_below_zero_among_many_is_found_in_a_few_products(lowest: float, top: float) -> None:
    """And a minimum takes fewer than the forty that a look may have."""
    draw = torch.Generator().manual_seed(1)
    bends = 0.5 + torch.rand(300, generator=draw, dtype=torch.float64)
    bends[-10:] *= top
    below = bends.clone()
    below[7] = lowest
    for each in (bends, below):
        p = nn.Parameter(torch.zeros(300, dtype=torch.float64))
        method = LBFGS([p])
        ground = Ground([(lambda p=p, each=each: 0.5 * (each * p.square()).sum(), 1.0)], [p])
        method.step(ground)
        assert method.last is not None
        assert ("stands at a saddle" in method.last.said) is (each is below)
        assert method.last.products <= 25


@pytest.mark.parametrize(
    "name", ["trust_region", "nonlinear_cg", "coordinate_descent", "levenberg_marquardt"]
)
def test_a_stand_between_kinks_is_not_called_convergence(name: str, caplog: pytest.LogCaptureFixture) -> None:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(50, 3, generator=draw, dtype=torch.float64)
    y = torch.randn(50, 1, generator=draw, dtype=torch.float64)
    problem = ds.Problem(model="linear", objective="absolute_error", train=(x, y))
    run = ds.fit(problem, ds.Recipe(optimizer=name, steps=100), folder=False, progress=False, observe=0)
    design = np.c_[x.numpy(), np.ones(50)]
    cost = np.r_[np.zeros(4), np.full(50, 1 / 50)]
    sides = np.block([[design, -np.eye(50)], [-design, -np.eye(50)]])
    bounds = [(None, None)] * 4 + [(0, None)] * 50
    optimum = linprog(cost, A_ub=sides, b_ub=np.r_[y.numpy()[:, 0], -y.numpy()[:, 0]], bounds=bounds).fun
    assert run.summary["train_loss"] > optimum + 1e-4
    assert run.status == "stalled"
    assert "stands still on a slope" in caplog.text
    assert "kinks" in caplog.text


def test_a_loss_that_was_detached_is_told_from_one_that_is_flat() -> None:
    weight = nn.Parameter(torch.ones(2))
    with pytest.raises(ObjectiveError, match=r"has no graph.*detach"):
        LBFGS([weight]).step(lambda: (weight**2).sum().detach())


def test_a_loss_that_has_run_out_of_digits_is_no_slope(caplog: pytest.LogCaptureFixture) -> None:
    x = torch.tensor([[-2.0], [-1.0], [1.0], [2.0]])
    problem = ds.Problem(
        model=lambda: nn.Linear(1, 2), objective="cross_entropy", train=(x, (x[:, 0] > 0).long())
    )
    run = ds.fit(problem, ds.Recipe(optimizer="lbfgs", steps=200), folder=False, progress=False, observe=0)
    assert run.summary["train_loss"] < 1e-6
    assert "stands still on a slope" not in caplog.text


@pytest.mark.parametrize("name", ["newton", "newton_cg"])
def test_curvature_that_rounding_left_of_a_vanished_loss_is_no_saddle(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    torch.manual_seed(2)
    x = torch.randn(400, 4)
    problem = ds.Problem(model="softmax", objective="cross_entropy", train=(x, (x[:, 0] > 0).long()))
    how = ds.Recipe(optimizer=name, steps=100, batch_size="full")
    run = ds.fit(problem, how, folder=False, progress=False, observe=0)
    assert not [each for each in run.facts["method"] if "saddle" in each["said"]]
    assert "saddle" not in caplog.text
