"""The Gauss rule of one vector: exact where it must be, and never further off than its bounds."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from downslope.terrain.krylov import Krylov
from downslope.terrain.spectrum.quadrature import Rule, rule_from, smooth_error
from tests.terrain.spectrum.matrices import Matrix, turned

VALUES = torch.linspace(-1, 1, 200, dtype=torch.float64)


def rule_and_measure(steps: int, scale: float = 1.0) -> tuple[Rule, np.ndarray, np.ndarray]:
    """A rule, and the eigenvalues with the weights that its vector gives them."""
    operator: Matrix = turned(scale * VALUES)
    start = torch.randn(200, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    space = Krylov(operator.product, start, steps)
    while not space.full:
        space.grow()
    values, vectors = torch.linalg.eigh(operator.matrix)
    weights = (vectors.T @ (start / start.norm())) ** 2
    return rule_from(space), values.numpy(), weights.numpy()


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_polynomials_below_twice_the_steps_are_exact(steps):
    rule, values, weights = rule_and_measure(steps)
    assert rule.weights.sum() == pytest.approx(1)
    for degree in range(2 * steps):
        assert rule.integral(lambda v, d=degree: v**d) == pytest.approx(
            float(weights @ values**degree), abs=1e-12
        )
    over = 2 * steps
    assert abs(rule.integral(lambda v: v**over) - float(weights @ values**over)) > 1e-8


@pytest.mark.parametrize("steps", [4, 8, 16])
@pytest.mark.parametrize("width", [0.05, 0.2, 0.5])
def test_smooth_functions_are_within_the_bound_and_it_is_not_idle(steps, width):
    grid = np.linspace(-1.2, 1.2, 41)
    rule, values, weights = rule_and_measure(steps)

    def bells(v: np.ndarray) -> np.ndarray:
        return np.exp(-(((grid[:, None] - v) / width) ** 2) / 2)

    off = np.abs(bells(rule.nodes) @ rule.weights - bells(values) @ weights)
    bound = smooth_error(bells, -1.0, 1.0, 2 * steps)
    assert (off <= bound + 1e-12).all()
    if off.max() > 1e-6:
        assert off.max() > 0.02 * bound.max()


@pytest.mark.parametrize("x", [-0.93, -0.4, 0.0, 0.31, 0.99])
@pytest.mark.parametrize("steps", [3, 10, 30])
def test_the_mass_below_a_point_is_bracketed(x, steps):
    rule, values, weights = rule_and_measure(steps, scale=100.0)
    x *= 100
    low, high = rule.below(x)
    assert low - 1e-12 <= float(weights[values < x].sum()) <= high + 1e-12
    assert high - low < 2 * math.pi / steps


def test_below_a_node_itself_both_ways_are_allowed():
    rule, values, weights = rule_and_measure(6)
    x = float(rule.nodes[3])
    low, high = rule.below(x)
    assert low <= float(weights[values < x].sum()) <= high


@pytest.mark.parametrize("x", [-1.4, -0.2, 0.05, 1.0])
def test_a_rule_with_a_node_forced_to_a_point_has_it_and_is_exact(x):
    rule, values, weights = rule_and_measure(5)
    forced = rule.forced(x)
    assert np.abs(forced.nodes - x).min() == pytest.approx(0, abs=1e-10)
    assert len(forced.nodes) == 6
    for degree in range(11):
        truth = float(weights @ values**degree)
        assert forced.integral(lambda v, d=degree: v**d) == pytest.approx(truth, abs=1e-11)
