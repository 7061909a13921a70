"""Projections against quadratic programmes, dense algebra and their own definition."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

import downslope as ds
from downslope.core.errors import InputError, UnknownNameError

C = ds.constraints
INF = float("inf")


def drawn(*shape: int, seed: int = 0, scale: float = 2.0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * scale


def programme(w: torch.Tensor, constraints: list[dict[str, Any]], bounds: Any = None) -> np.ndarray:
    """The nearest point by SciPy's general solver of quadratic programmes."""
    start = np.full(w.numel(), 0.1)
    goal = w.numpy().ravel()
    found = minimize(
        lambda x: ((x - goal) ** 2).sum(), start, jac=lambda x: 2 * (x - goal), method="SLSQP",
        constraints=constraints, bounds=bounds, options={"ftol": 1e-16, "maxiter": 1000},
    )  # fmt: skip
    return found.x.reshape(w.shape)


@pytest.mark.parametrize("seed", range(4))
def test_the_simplex_projection_is_that_of_a_quadratic_programme(seed: int) -> None:
    w = drawn(6, seed=seed)
    peer = programme(w, [{"type": "eq", "fun": lambda x: x.sum() - 1.5}], [(0, None)] * 6)
    np.testing.assert_allclose(C.simplex(1.5).project(w), peer, atol=1e-7)


def test_the_simplex_takes_every_row_by_itself() -> None:
    w = drawn(3, 5)
    found = C.simplex().project(w)
    np.testing.assert_allclose(found.sum(1), 1.0, rtol=1e-14)
    assert bool((found >= 0).all())
    for row, alone in zip(found, w, strict=True):
        np.testing.assert_allclose(row, C.simplex().project(alone))


def test_points_on_the_simplex_stay_where_they_are() -> None:
    w = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    np.testing.assert_allclose(C.simplex().project(w), w, rtol=1e-15)


def test_the_ball_projection_is_that_of_a_quadratic_programme() -> None:
    w = drawn(2, 3)
    peer = programme(w, [{"type": "ineq", "fun": lambda x: 1 - (x**2).sum()}])
    np.testing.assert_allclose(C.l2_ball().project(w), peer, atol=1e-6)
    assert torch.equal(C.l2_ball(100).project(w), w)
    assert torch.equal(C.l2_ball().project(torch.zeros(3)), torch.zeros(3))


def test_max_norm_holds_every_unit() -> None:
    w = drawn(4, 3)
    lengths = C.max_norm(1.0).project(w).norm(dim=1)
    np.testing.assert_allclose(lengths, w.norm(dim=1).clamp(max=1.0), rtol=1e-12)


def test_a_box_clamps() -> None:
    w = drawn(50)
    np.testing.assert_allclose(C.box(-0.5, 1).project(w), np.clip(w.numpy(), -0.5, 1))
    np.testing.assert_allclose(C.non_negative().project(w), np.maximum(w.numpy(), 0))


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (4, 4)])
def test_the_polar_factor_is_nearer_than_any_other_orthogonal_matrix(shape: tuple[int, int]) -> None:
    w = drawn(*shape)
    found = C.orthogonal().project(w)
    product = found @ found.T if shape[0] <= shape[1] else found.T @ found
    np.testing.assert_allclose(product, torch.eye(min(shape)), atol=1e-13)
    from scipy.linalg import polar

    np.testing.assert_allclose(found, polar(w.numpy())[0], atol=1e-12)
    for seed in range(20):
        other = torch.linalg.qr(drawn(*shape, seed=seed) if shape[0] >= shape[1] else drawn(*shape).T)[0]
        other = other if other.shape == w.shape else other.T
        assert (w - found).norm() <= (w - other).norm() + 1e-12


@pytest.mark.parametrize("seed", range(3))
def test_an_intersection_is_projected_to_its_nearest_point(seed: int) -> None:
    w = drawn(5, seed=seed, scale=3)
    both = C.non_negative() & C.l2_ball(1.5)
    peer = programme(w, [{"type": "ineq", "fun": lambda x: 1.5**2 - (x**2).sum()}], [(0, None)] * 5)
    np.testing.assert_allclose(both.project(w), peer, atol=1e-6)


def test_projections_in_turn_alone_end_elsewhere() -> None:
    w = torch.tensor([2.0, 1.0, -1.0], dtype=torch.float64)
    sets = C.simplex() & C.box(0.0, 0.6)
    peer = programme(w, [{"type": "eq", "fun": lambda x: x.sum() - 1}], [(0, 0.6)] * 3)
    np.testing.assert_allclose(sets.project(w), peer, atol=1e-7)
    x = w
    for _ in range(1000):
        x = sets.parts[1].project(sets.parts[0].project(x))
    assert (x - w).norm() > (sets.project(w) - w).norm()


def test_of_two_boxes_the_common_one_is_taken() -> None:
    w = drawn(20)
    np.testing.assert_allclose((C.box(0, 2) & C.box(-1, 1)).project(w), np.clip(w.numpy(), 0, 1))


def test_a_union_takes_the_nearest_of_the_nearest_points() -> None:
    either = C.box(1, 2) | C.box(-2, -1)
    w = torch.tensor([0.2, 0.3])
    assert either.project(w).tolist() == [1.0, 1.0]
    assert either.project(-w).tolist() == [-1.0, -1.0]


@pytest.mark.parametrize(
    "which",
    [
        C.box(-1, 0.5), C.non_negative(), C.l2_ball(), C.max_norm(1), C.simplex(), C.orthogonal(),
        C.box(0, 1) & C.l2_ball(), C.simplex() & C.box(0, 0.5), C.box(1, 2) | C.box(-2, -1),
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_projection_ends_inside_and_stays_there(which: Any, dtype: torch.dtype) -> None:
    w = drawn(3, 4).to(dtype)
    once = which.project(w)
    assert once.dtype == dtype
    small = 1e-6 if dtype == torch.float32 else 1e-10
    assert which.distance(once) < small
    assert which.distance(w) == pytest.approx(float((w - once).norm()), rel=1e-5)


SETS = {
    "box": (C.box(-1, 1), True),
    "non_negative": (C.non_negative(), True),
    "l2_ball": (C.l2_ball(), True),
    "max_norm": (C.max_norm(), True),
    "simplex": (C.simplex(), True),
    "orthogonal": (C.orthogonal(), False),
    "intersection": (C.box(0, 1) & C.l2_ball(), True),
    "with a set that is not": (C.orthogonal() & C.non_negative(), None),
    "union": (C.box(1, 2) | C.box(-2, -1), None),
}


@pytest.mark.parametrize("name", SETS)
def test_every_set_declares_whether_it_is_convex_and_points_between_agree(name: str) -> None:
    which, convex = SETS[name]
    assert which.convex is convex
    if convex is None:
        return
    points = [which.project(drawn(3, 4, seed=seed, scale=4)) for seed in range(6)]
    farthest = max(which.distance((a + b) / 2) for a, b in itertools.combinations(points, 2))
    assert (farthest < 1e-8) is convex


def test_a_union_of_convex_sets_need_not_be_convex() -> None:
    either = C.box(1, 2) | C.box(-2, -1)
    one, other = torch.ones(2), -torch.ones(2)
    assert either.distance(one) == either.distance(other) == 0
    assert either.distance((one + other) / 2) == pytest.approx(2**0.5)


def test_boxes_without_a_common_point_are_told_as_they_were_given() -> None:
    with pytest.raises(
        InputError, match=r"box\(1, 2\) & box\(-2, -1\): no point lies in all .* stay 2 apart"
    ):
        (C.box(1, 2) & C.box(-2, -1)).project(torch.zeros(3))


def test_sets_without_a_common_point_are_told_with_how_far_they_are_apart() -> None:
    with pytest.raises(InputError, match=r"no common point was found, the sets stay 1\.\d+ apart"):
        (C.box(1, 2) & C.l2_ball(0.5)).project(drawn(4))
    with pytest.raises(InputError, match="they stay 1 apart"):
        (C.box(0, 1) & C.box(2, 3)).project(drawn(4))


TEXTS = [
    "box(-1.0, 2.5)", "non_negative", "l2_ball(2.0)", "max_norm(3.0)", "simplex(1.0)", "orthogonal",
    "box(0.0, 1.0, params='0.weight')", "non_negative & l2_ball(2.0)", "box(1.0, 2.0) | box(-2.0, -1.0)",
    "box(-inf, 1.0)", "non_negative(by='parametrisation')", "(box(1.0, 2.0) | box(-2.0, -1.0)) & l2_ball(9)",
]  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_is_read_back_as_the_same_set(text: str) -> None:
    found = C.read(text)
    assert C.read(str(found)) == found
    w = drawn(3, 4)
    if found.by == "projection":
        torch.testing.assert_close(C.read(str(found)).project(w), found.project(w))


def test_a_word_in_a_text_needs_no_quotes() -> None:
    assert C.read("simplex(by=parametrisation)") == C.simplex(by="parametrisation")
    assert C.read("box(0, 1, params=weight)") == C.box(0, 1, params="weight")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: C.box(1, 0), "the lower bound comes first"),
        (lambda: C.box(float("nan"), 0), "must be a number"),
        (lambda: C.l2_ball(0), "must be a positive number"),
        (lambda: C.simplex(-1), "must be a positive number"),
        (lambda: C.l2_ball(by="force"), "'projection' or 'parametrisation'"),
        (lambda: C.box(params=3), "names or patterns"),
        (lambda: C.read("box(0 1)"), "must be a name with its arguments"),
        (lambda: C.read("box(0, 1, 2)"), "positional arguments"),
        (lambda: C.read(3), "a name such as 'non_negative'"),
        (lambda: C.read(C.Box), "is a class"),
        (lambda: C.box() & C.orthogonal(by="parametrisation"), "held by projection"),
        (lambda: C.box() | C.l2_ball(params="0.weight"), "same parameters"),
        (lambda: C.orthogonal().project(torch.ones(3)), "no matrix"),
    ],
)
def test_a_bad_set_is_told_in_one_line(wrong: Any, said: str) -> None:
    with pytest.raises(InputError, match=said) as told:
        wrong()
    assert "\n" not in str(told.value)


def test_a_misspelt_set_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'non_negative'"):
        C.read("non_negativ")
