"""Critical points against gradients and Hessians in float64, and against what SciPy finds."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import optimize

import downslope as ds
from downslope.core.errors import InputError, UnknownNameError
from downslope.terrain import functions
from downslope.terrain.functions import Function

SPELT = (
    *functions.names(),
    "rosenbrock(dimension=4)",
    "rosenbrock(dimension=7)",
    "bowl(condition=1000, angle=30)",
    "bowl(condition=100, dimension=5)",
    "double_well(dimension=1, tilt=0.2)",
    "double_well(dimension=3, tilt=-0.1)",
    "styblinski_tang(dimension=3)",
    "rastrigin(dimension=1)",
)

BY_HAND = {
    "x_cos_pi_x": lambda x: x[0] * np.cos(np.pi * x[0]),
    "cubic": lambda x: x[0] ** 3,
    "tanh": lambda x: np.tanh(x[0]),
    "exponential": lambda x: np.exp(x[0]),
    "absolute": lambda x: max(abs(x[0] - 1), 0),
    "flat_bottom": lambda x: max(abs(x[0]) - 1, 0),
    "saddle": lambda x: x[0] ** 2 - x[1] ** 2,
    "monkey_saddle": lambda x: ((x[0] + 1j * x[1]) ** 3).real,
    "double_well": lambda x: (x[0] ** 2 - 1) ** 2 / 4 + x[1] ** 2 / 2,
    "rosenbrock": optimize.rosen,
    "beale": lambda x: sum((c - x[0] * (1 - x[1] ** i)) ** 2 for i, c in ((1, 1.5), (2, 2.25), (3, 2.625))),
    "booth": lambda x: np.sum((np.array([[1, 2], [2, 1]]) @ x - [7, 5]) ** 2),
    "matyas": lambda x: 0.5 * x @ np.array([[0.52, -0.48], [-0.48, 0.52]]) @ x,
    "bowl": lambda x: 0.1 * x[0] ** 2 + 2 * x[1] ** 2,
    "himmelblau": lambda x: (x[0] ** 2 + x[1] - 11) ** 2 + (x[0] + x[1] ** 2 - 7) ** 2,
    "styblinski_tang": lambda x: np.polyval([0.5, 0, -8, 2.5, 0], x).sum(),
    "rastrigin": lambda x: 20 + np.sum(x**2 - 10 * np.cos(2 * np.pi * x)),
}


def starts(function: Function, count: int) -> np.ndarray:
    low, high = np.array(function.domain).T
    return np.random.default_rng(0).uniform(low, high, (count, function.dimension))


def slope_of(function: Function, x: np.ndarray) -> np.ndarray:
    return function.gradient(torch.from_numpy(x)).numpy()


def test_every_function_is_checked_by_hand() -> None:
    assert set(BY_HAND) | {"cliff"} == set(functions.names())


@pytest.mark.parametrize("name", BY_HAND)
def test_values_are_those_of_the_formula(name: str) -> None:
    function = functions.get(name)
    points = starts(function, 20)
    wanted = [BY_HAND[name](x) for x in points]
    assert function(torch.from_numpy(points)).numpy() == pytest.approx(wanted, rel=1e-13, abs=1e-13)


def test_the_cliff_is_the_loss_of_a_recurrent_unit() -> None:
    function = functions.get("cliff")
    for w, b in starts(function, 5):
        state = 0.5
        for _ in range(50):
            state = w / (1 + math.exp(-state)) + b
        assert function.at(w, b) == pytest.approx((1 / (1 + math.exp(-state)) - 0.7) ** 2, rel=1e-10)


@pytest.mark.parametrize("spelt", SPELT)
def test_the_gradient_is_zero_at_every_critical_point_and_the_hessian_tells_its_kind(spelt: str) -> None:
    function = functions.get(spelt)
    for point in function.critical:
        at = torch.tensor(point.at, dtype=torch.float64)
        assert float(function(at)) == pytest.approx(point.value, abs=1e-13 * max(1, abs(point.value)) + 1e-27)
        if function.kinks:
            continue
        eigenvalues = torch.linalg.eigvalsh(function.hessian(at))
        largest = float(eigenvalues.abs().max())
        assert float(function.gradient(at).abs().max()) <= 1e-14 * max(largest, 1) * (
            1 + max(map(abs, point.at))
        )
        if point.degenerate:
            assert float(eigenvalues.abs().min()) < 1e-12
            continue
        signs = {bool(each > 0) for each in eigenvalues}
        assert {"minimum": {True}, "maximum": {False}, "saddle": {True, False}}[point.kind] == signs


@pytest.mark.parametrize("spelt", SPELT)
def test_from_many_starts_scipy_finds_nothing_lower(spelt: str) -> None:
    function = functions.get(spelt)
    ends = [
        optimize.minimize(
            lambda x: function.at(*x),
            x,
            jac=None if function.kinks else lambda x: slope_of(function, x),
            method="L-BFGS-B",
            bounds=function.domain,
        ).fun
        for x in starts(function, 8)
    ]
    if function.lowest:
        assert min(ends) >= function.lowest[0].value - 1e-12
        assert all(each.value == function.lowest[0].value for each in function.lowest if spelt != "rastrigin")
    else:
        assert not function.attained
        assert min(ends) >= function.infimum


@pytest.mark.parametrize("name", ["x_cos_pi_x", "beale", "himmelblau", "double_well", "styblinski_tang"])
def test_from_many_starts_scipy_finds_every_critical_point_and_no_other(name: str) -> None:
    function = functions.get(name)
    found = [
        optimize.root(
            lambda v: slope_of(function, v),
            x,
            jac=lambda v: function.hessian(torch.from_numpy(v)).numpy(),
            tol=1e-13,
        )
        for x in starts(function, 60)
    ]
    low, high = np.array(function.domain).T
    inside = [r.x for r in found if np.abs(r.fun).max() < 1e-8 and (r.x >= low).all() and (r.x <= high).all()]
    known = np.array([each.at for each in function.critical])
    apart = np.linalg.norm(np.array(inside)[:, None] - known, axis=-1)
    assert apart.min(axis=1).max() < 1e-5
    assert apart.min(axis=0).max() < 1e-5


def test_figures_of_the_anchors() -> None:
    minima = functions.get("x_cos_pi_x").minima
    assert [each.at[0] for each in minima] == pytest.approx([1.090408222, -0.273852687], abs=5e-10)
    curved = functions.get("rosenbrock").hessian(torch.ones(2, dtype=torch.float64))
    assert torch.linalg.eigvalsh(curved).tolist() == pytest.approx([0.399361, 1001.60064], abs=5e-6)
    numbers = torch.linalg.eigvalsh(
        functions.get("bowl", condition=1000.0, angle=30.0).hessian(torch.zeros(2))
    )
    assert float(numbers[1] / numbers[0]) == pytest.approx(1000, rel=1e-4)


def test_rosenbrock_has_a_second_minimum_from_four_coordinates_on() -> None:
    assert [len(functions.get("rosenbrock", dimension=d).minima) for d in (2, 3, 4, 7)] == [1, 1, 2, 2]
    second = functions.get("rosenbrock", dimension=4).minima[1]
    assert second.value == pytest.approx(3.70142, abs=1e-5)  # Kok and Sandrock 2009, table 1
    assert second.at[0] == pytest.approx(-0.77565923, abs=1e-7)


def test_of_a_sum_all_combinations_are_critical_points() -> None:
    kinds = [each.kind for each in functions.get("rastrigin").critical]
    assert [kinds.count(kind) for kind in ("minimum", "saddle", "maximum")] == [121, 220, 100]
    assert not functions.get("rastrigin", dimension=10).whole
    assert functions.get("rastrigin", dimension=10).lowest[0].at == (0.0,) * 10


def test_fit_descends_a_function_and_a_gradient_step_is_the_formulas() -> None:
    function = functions.get("bowl")
    recipe = ds.Recipe(optimizer="gd", lr=0.4, steps=20, batch_size="full", precision="float64")
    run = ds.fit(function.problem(), recipe, folder=False, progress=False)
    end = run.model("last").point.detach()
    assert end.tolist() == pytest.approx([-0.943467, -7.31e-5], rel=1e-6, abs=5e-8)  # ANCHORS
    assert run.history.series("train_loss").values[0] == pytest.approx(0.1 * 25 + 2 * 4)


def test_a_rate_beyond_the_limit_of_a_bowl_is_diagnosed_and_nothing_is_said_of_its_data() -> None:
    recipe = ds.Recipe(optimizer="gd", lr=0.6, steps=60, batch_size="full")
    found = ds.diagnose(functions.get("bowl").problem(), recipe, progress=False)
    assert [each.symptom for each in found.findings] == ["learning-rate-too-high"]


def test_a_start_and_a_batch_of_points_can_be_given() -> None:
    function = functions.get("himmelblau")
    model = function.problem((1.0, 2.5)).build()
    assert model.point.tolist() == [1.0, 2.5]
    grid = torch.rand(3, 4, 2, dtype=torch.float64)
    assert function(grid).shape == (3, 4)
    assert function.hessian(grid).shape == (3, 4, 2, 2)
    exact = torch.autograd.functional.hessian(function, grid[1, 2])
    assert torch.allclose(function.hessian(grid)[1, 2], exact, rtol=1e-12)
    nearest = function.nearest((2.9, 2.1))
    assert nearest is not None
    assert nearest[0].at == (3.0, 2.0)


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda: functions.get("rosenbrok"), UnknownNameError, "did you mean 'rosenbrock'"),
        (lambda: functions.get("rosenbrock", dimension=1), InputError, "at least 2"),
        (lambda: functions.get("beale", dimension=3), InputError, "no setting of the function beale"),
        (lambda: functions.get("bowl(condition=0.5)"), InputError, "at least 1"),
        (lambda: functions.get("double_well", tilt=0.5), InputError, "one well is gone"),
        (lambda: functions.get("beale").problem((1.0,)), InputError, "takes 2 finite coordinates"),
        (lambda: functions.get("beale")(torch.zeros(3)), InputError, r"shape \(..., 2\)"),
    ],
)
def test_what_does_not_fit_is_told(call, error, said) -> None:
    with pytest.raises(error, match=said):
        call()
