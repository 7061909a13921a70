"""Rows 21 and 22: minima and saddles by their eigenvalues, and who leaves them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar

import downslope as ds
from downslope.terrain.critical.random_ground import signs


def ripples(x: float) -> float:
    return x * math.cos(math.pi * x)


def test_the_start_chooses_the_minimum_of_its_own_basin():
    """The basins are cut at the maxima that SciPy finds, the minima are SciPy's of each interval."""
    f = ds.functions.x_cos_pi_x()
    top = minimize_scalar(
        lambda x: -ripples(x), bounds=(0.0, 0.6), method="bounded", options={"xatol": 1e-10}
    ).x
    for start in (-0.8, top - 0.02, top + 0.02, 1.9):
        low, high = (-1.0, top) if start < top else (top, 2.0)
        expected = minimize_scalar(ripples, bounds=(low, high), method="bounded", options={"xatol": 1e-10})
        run = ds.fit(
            f.problem((start,)), ds.Recipe(optimizer="gd", lr=0.02, steps=600, precision="float64"),
            folder=False, progress=False, observe=0,
        )  # fmt: skip
        terrain = ds.survey(f.problem(), run.model(), progress=False)
        assert terrain.kind == "minimum"
        assert terrain.loss == pytest.approx(expected.fun, abs=1e-9)
    lowest = min((ripples(x), x) for x in np.linspace(-1, 2, 30001))
    assert f.lowest[0].at[0] == pytest.approx(lowest[1], abs=1e-3)


def test_only_noise_leaves_a_local_minimum_and_it_leaves_to_the_global_one():
    found = ds.escape("x_cos_pi_x", ["gd", "sgd"], noise=2.2, seeds=20, steps=800, keep=20)
    assert found["gd"].escaped == 0
    assert found["sgd"].escaped > 15
    ends = found["sgd"].paths[-1, :, 0]
    # Beside the global minimum, up to the noise that it keeps: T/f'' = 0.1/12 is a standard deviation of 0.1.
    assert np.median(np.abs(ends[found["sgd"].left < 700] - 1.0904)) < 0.2


def test_the_worst_minimum_of_a_wide_network_lies_below_the_best_of_a_narrow_one():
    x = torch.linspace(-2, 2, 24)[:, None]
    losses = {}
    for width in (2, 16):
        problem = ds.Problem(
            model="mlp", objective="squared_error", train=(x, torch.sin(3 * x)),
            arguments={"width": width, "depth": 1, "activation": "tanh"},
        )  # fmt: skip
        recipe = ds.Recipe(optimizer="adam", lr=0.1, schedule="cosine", batch_size="full", steps=200)
        runs = ds.fit_population(problem, recipe, seeds=range(6), progress=False)
        losses[width] = [run.summary["train_loss"] for run in runs]
    assert max(losses[16]) < min(losses[2])
    assert np.ptp(losses[16]) < np.ptp(losses[2])


HESSIANS = {
    "saddle": ((0.0, 0.0), [[2.0, 0.0], [0.0, -2.0]], "saddle"),
    "double_well": ((0.0, 0.0), [[-1.0, 0.0], [0.0, 1.0]], "saddle"),
    "double_well(tilt=0.0)": ((1.0, 0.0), [[2.0, 0.0], [0.0, 1.0]], "minimum"),
    "himmelblau": ((3.0, 2.0), [[74.0, 20.0], [20.0, 34.0]], "minimum"),
    "cubic": ((0.0,), [[0.0]], "saddle"),
    "monkey_saddle": ((0.0, 0.0), [[0.0, 0.0], [0.0, 0.0]], "saddle"),
}
"""By hand; those of Himmelblau's are 12 x^2 + 4 y - 42, 4 (x + y), 12 y^2 + 4 x - 26."""


@pytest.mark.parametrize("name", HESSIANS)
def test_the_signs_of_the_eigenvalues_say_what_a_critical_point_is(name):
    point, hessian, kind = HESSIANS[name]
    terrain = ds.survey(ds.functions.get(name).problem(point), progress=False)
    assert terrain.kind == kind
    assert sorted(terrain.eigenvalues.tolist()) == pytest.approx(np.linalg.eigvalsh(hessian), abs=1e-9)


def test_methods_leave_a_saddle_in_the_order_of_their_growth():
    lr, b, m, eps, seeds = 0.02, 0.9, 2.0, 1e-5, 41
    found = ds.escape(
        "saddle", ["gd", "momentum", "nesterov", "adam"], lr=lr, batch_size="full", spread=eps, seeds=seeds
    )
    growth = {
        "gd": 1 + lr * m,
        "momentum": max(np.roots([1, -(1 + b + lr * m), b])),
        "nesterov": max(np.roots([1, -(1 + b) * (1 + lr * m), b * (1 + lr * m)])),
    }
    away = 0.6745 * eps  # the median distance along y
    for method, factor in growth.items():
        # The larger root takes over after a transient that costs momentum less than 1/(1 - b) steps.
        assert found[method].median == pytest.approx(math.log(1 / away) / math.log(factor), abs=12)
    assert found["adam"].median == pytest.approx(1 / lr, rel=0.2)  # lr a step, whatever the distance


def test_saddles_take_over_with_the_dimension_and_high_points_have_the_larger_index():
    shares = [signs(n, 4000).saddles for n in range(1, 6)]
    assert shares == sorted(shares)
    assert shares[1] == pytest.approx(1 - (2 - math.sqrt(2)) / 2, abs=0.03)
    assert shares[4] > 0.995
    found = ds.critical_points("himmelblau", starts=80, along=[0])
    heights = {kind: [] for kind in ("minimum", "saddle", "maximum")}
    for kind, loss in zip(found.kinds, found.losses.tolist(), strict=True):
        heights[kind].append(loss)
    assert [len(each) for each in heights.values()] == [4, 4, 1]
    assert max(heights["minimum"]) < min(heights["saddle"]) < max(heights["saddle"]) < heights["maximum"][0]
