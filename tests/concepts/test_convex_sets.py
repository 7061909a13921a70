"""Convex sets: segments, nearest points, and what projecting after every step finds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import nn

import downslope as ds

C = ds.constraints


def points(which: Any, count: int = 12) -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    return [which.project(3 * torch.randn(4, generator=draw, dtype=torch.float64)) for _ in range(count)]


def leaves(which: Any) -> float:
    """How far segments between points of the set lie outside of it at most."""
    inside = points(which)
    return max(which.distance(t * a + (1 - t) * b) for a in inside for b in inside for t in (0.25, 0.5))


def test_segments_stay_in_intersections_of_convex_sets_and_leave_a_union() -> None:
    convex = [C.box(-1, 1), C.l2_ball(1.2), C.simplex(), C.non_negative()]
    for a in convex:
        assert leaves(a) < 1e-10
        for b in convex:
            assert (a & b).convex
            assert leaves(a & b) < 1e-8
    either = C.box(1, 2) | C.box(-2, -1)
    assert either.convex is None
    assert leaves(either) > 0.5


@pytest.mark.parametrize(
    "which", [C.box(-1, 1), C.l2_ball(1.2), C.simplex(), C.non_negative() & C.l2_ball(1)]
)
def test_the_nearest_point_makes_a_blunt_angle_with_every_other(which: Any) -> None:
    """(w - p)·(z - p) <= 0 for all z of a convex set: what makes p the projection of w."""
    draw = torch.Generator().manual_seed(1)
    for _ in range(8):
        w = 3 * torch.randn(4, generator=draw, dtype=torch.float64)
        p = which.project(w)
        assert max(float((w - p) @ (z - p)) for z in points(which)) < 1e-8


@pytest.mark.parametrize("text", ["box(-0.4, 0.4)", "l2_ball(0.6)", "simplex", "non_negative & l2_ball(0.6)"])
def test_from_every_start_projected_descent_ends_in_the_one_minimum_of_a_convex_set(text: str) -> None:
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(50, 3)), draw.normal(size=(50, 1))
    ends: list[np.ndarray] = []
    for seed in range(3):
        problem = ds.Problem(
            model=lambda: nn.Linear(3, 1, bias=False),
            objective="squared_error",
            train=(x, y),
            constraint=text,
        )
        recipe = ds.Recipe(optimizer="gd", lr=0.2, steps=200, seed=seed, precision="float64")
        run = ds.fit(problem, recipe, folder=False, progress=False, observe=0)
        ends.append(run.model().weight.detach()[0].numpy())
    for each in ends[1:]:
        np.testing.assert_allclose(each, ends[0], atol=1e-8)
    which = C.read(text)

    def value(w: np.ndarray) -> float:
        return float(((x @ w - y[:, 0]) ** 2).mean())

    # Apart from descent: of many points of the set none is lower.
    draws = torch.from_numpy(draw.normal(size=(300, 3)))
    lowest = min(value(which.project(each).numpy()) for each in draws)
    assert value(ends[0]) <= lowest + 1e-12


def test_under_a_union_the_end_hangs_on_the_start() -> None:
    x = np.eye(2)
    y = np.array([[3.0], [3.0]])
    ends: list[float] = []
    for start in (1.5, -1.5):
        model = nn.Linear(2, 1, bias=False)
        nn.init.constant_(model.weight, start)
        either = C.box(1, 2) | C.box(-2, -1)
        problem = ds.Problem(model=model, objective="squared_error", train=(x, y), constraint=either)
        run = ds.fit(problem, ds.Recipe(optimizer="gd", lr=0.05, steps=100), folder=False, progress=False)
        ends.append(run.summary["train_loss"])
    assert ends[0] == pytest.approx(1.0)
    assert ends[1] == pytest.approx(16.0)


def test_the_simplex_is_the_nearest_point_of_a_general_solver() -> None:
    w = torch.tensor([0.9, 0.4, -0.3, 0.2], dtype=torch.float64)
    goal = w.numpy()
    peer = minimize(
        lambda z: ((z - goal) ** 2).sum(), np.full(4, 0.25), method="SLSQP", bounds=[(0, None)] * 4,
        constraints=[{"type": "eq", "fun": lambda z: z.sum() - 1}], options={"ftol": 1e-15},
    ).x  # fmt: skip
    np.testing.assert_allclose(C.simplex().project(w), peer, atol=1e-7)
