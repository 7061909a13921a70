"""One coordinate, or one block, at a time: Gauss and Seidel on a quadratic, in the order asked for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from downslope.terrain.ground import Ground
from downslope.terrain.methods import BlockCoordinateDescent, CoordinateDescent
from downslope.terrain.methods.block_coordinate_descent import blocks_of
from downslope.terrain.methods.turns import Turns
from tests.terrain.methods.problems import Path, beale, quadratic

A = np.array([[4.0, 1.0, 0.5], [1.0, 3.0, -1.0], [0.5, -1.0, 5.0]])
B = np.array([1.0, -2.0, 0.5])


def bowl(x: torch.Tensor) -> torch.Tensor:
    return 0.5 * x @ torch.tensor(A) @ x - torch.tensor(B) @ x


def test_a_sweep_is_an_iteration_of_gauss_and_seidel() -> None:
    path = Path(bowl, [1.0, 1.0, 1.0], CoordinateDescent, 4)
    lower, upper = np.tril(A), np.triu(A, 1)
    x = np.ones(3)
    for found in path.points[1:]:
        x = np.linalg.solve(lower, B - upper @ x)
        np.testing.assert_allclose(found.numpy(), x, rtol=1e-12)


def test_blocks_of_a_quadratic_are_block_gauss_seidel() -> None:
    p, q = (torch.ones(n, dtype=torch.float64, requires_grad=True) for n in (2, 1))
    method = BlockCoordinateDescent([p, q], blocks="tensor", max_cg=10)
    ground = Ground([(lambda: bowl(torch.cat([p, q])), 1.0)], [p, q])
    for _ in range(6):
        method.step(ground)
    x = np.ones(3)
    for _ in range(6):
        x[:2] = np.linalg.solve(A[:2, :2], B[:2] - A[:2, 2:] @ x[2:])
        x[2:] = np.linalg.solve(A[2:, 2:], B[2:] - A[2:, :2] @ x[:2])
    np.testing.assert_allclose(ground.where().numpy(), x, rtol=1e-4)


def test_greedy_takes_the_steepest_coordinate() -> None:
    path = Path(bowl, [1.0, 1.0, 1.0], CoordinateDescent, 1, order="greedy", per_step=1)
    moved = np.flatnonzero(path.x != 1.0)
    slopes = np.abs(A @ np.ones(3) - B)
    assert moved.tolist() == [int(slopes.argmax())]


def test_a_random_order_takes_each_once_a_round_and_goes_on_where_it_stopped() -> None:
    memory: dict[str, int] = {}
    sizes = torch.zeros(7)
    whole = [Turns({}, 7, "random", 3)]
    drawn = [whole[0].next(sizes) for _ in range(21)]
    assert [sorted(drawn[i : i + 7]) for i in (0, 7, 14)] == [list(range(7))] * 3
    assert drawn[:7] != drawn[7:14]
    again = [Turns(memory, 7, "random", 3).next(sizes) for _ in range(21)]
    assert again == drawn


@pytest.mark.parametrize("order", ["cyclic", "random", "greedy"])
def test_every_order_reaches_the_minimum_of_a_bowl(order: str) -> None:
    f, answer = quadratic(np.linspace(1, 8, 6))
    path = Path(f, np.ones(6), CoordinateDescent, 200, gtol=1e-8, order=order)
    np.testing.assert_allclose(path.x, answer.numpy(), atol=1e-7)


def test_inner_newton_steps_go_to_the_minimum_along_the_coordinate() -> None:
    path = Path(beale, [1.0, 1.0], CoordinateDescent, 1, per_step=1, inner=20)
    x0 = torch.tensor(path.x[0], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(beale(torch.stack([x0, torch.ones((), dtype=torch.float64)])), x0)
    assert abs(float(slope)) < 1e-10


def test_layers_are_the_tensors_of_one_module() -> None:
    parts = [torch.zeros(n, requires_grad=True) for n in (6, 2, 4, 1)]
    ground = Ground([], parts, ["a.0.weight", "a.0.bias", "b.weight", "b.bias"])
    assert blocks_of(ground, "layer") == [slice(0, 8), slice(8, 13)]
    assert blocks_of(ground, "tensor") == [slice(0, 6), slice(6, 8), slice(8, 12), slice(12, 13)]
