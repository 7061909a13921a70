"""Line searches keep Wolfe's conditions, follow SciPy's trial by trial, turn back from NaN."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from scipy.optimize._dcsrch import DCSRCH
from torch import Tensor

from downslope.terrain.ground import Ground
from downslope.terrain.methods import Line, Trial, backtracking, more_thuente, strong_wolfe

SEARCHES = {"armijo": backtracking, "zoom": strong_wolfe, "more_thuente": more_thuente}


def line_of(phi: Callable[[Tensor], Tensor]) -> Line:
    t = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    ground = Ground.of_closure(lambda: phi(t[0]), [t])
    value, gradient = ground.slope()
    return Line(ground, ground.where(), torch.ones(1, dtype=torch.float64), value, gradient)


PHIS: dict[str, Callable[[Tensor], Tensor]] = {
    "more and thuente 1": lambda t: -t / (t * t + 2.0),
    "more and thuente 2": lambda t: (t + 0.004) ** 5 - 2 * (t + 0.004) ** 4,
    "quartic": lambda t: (t - 3.0) ** 4,
    "wavy": lambda t: (t - 5.0) ** 2 + 2 * torch.cos(5 * t),
    "flat then steep": lambda t: torch.exp(-t) + 1e-3 * t * t,
}


@pytest.mark.parametrize("first", [1e-3, 1e-1, 1.0, 10.0, 1e3])
@pytest.mark.parametrize("name", PHIS)
def test_strong_searches_end_where_both_of_wolfes_conditions_hold(name: str, first: float) -> None:
    for search in (strong_wolfe, partial(more_thuente, xtol=1e-12)):
        line = line_of(PHIS[name])
        found = search(line, first, c1=1e-3, c2=0.1, max_eval=40)
        assert found is not None
        assert found.value <= line.start.value + 1e-3 * found.t * line.start.slope
        assert abs(found.slope) <= 0.1 * abs(line.start.slope)
        assert torch.equal(line.ground.where(), found.x)


@pytest.mark.parametrize("first", [1e-3, 1.0, 30.0])
@pytest.mark.parametrize("name", PHIS)
def test_more_thuente_tries_the_points_that_scipys_dcsrch_tries(name: str, first: float) -> None:
    tried: list[float] = []
    line = line_of(PHIS[name])
    look = line.at

    def noted(t: float) -> Trial:
        tried.append(t)
        return look(t)

    line.at = noted
    more_thuente(line, first, c1=1e-3, c2=0.1, max_eval=40)
    theirs: list[float] = []

    def phi(t: float) -> float:
        theirs.append(float(t))
        return float(PHIS[name](torch.tensor(t, dtype=torch.float64)))

    def slope(t: float) -> float:
        at = torch.tensor(float(t), dtype=torch.float64, requires_grad=True)
        PHIS[name](at).backward()
        assert at.grad is not None
        return float(at.grad)

    DCSRCH(phi, slope, 1e-3, 0.1, 0.1, 0.0, 1e10)(
        first, phi0=line.start.value, derphi0=line.start.slope, maxiter=40
    )
    assert tried == pytest.approx(theirs, rel=1e-12)


@pytest.mark.parametrize("name", SEARCHES)
def test_points_that_are_not_finite_are_turned_back_from(name: str) -> None:
    line = line_of(lambda t: -torch.log(1.0 - t) - 3.0 * t)  # NaN from 1 on, least at 2/3
    found = SEARCHES[name](line, 50.0)
    assert found is not None
    assert found.finite
    assert found.value < line.start.value


@pytest.mark.parametrize("name", SEARCHES)
def test_a_line_that_only_rises_gives_no_point_and_the_ground_is_back(name: str) -> None:
    line = line_of(lambda t: t * t)
    line.start = line.start._replace(slope=-1.0)  # a gradient that is wrong
    assert SEARCHES[name](line, 1.0) is None
    assert float(line.ground.where()) == 0.0
    assert line.evaluations <= 25


def test_within_rounding_the_slopes_decide() -> None:
    line = line_of(lambda t: 1e8 + (t - 1e-4) ** 2)  # the loss tells nothing here
    found = more_thuente(line, 1.1e-4)
    assert found is not None
    assert math.isclose(found.t, 1e-4, rel_tol=0.2)


def test_backtracking_halves_until_armijos_condition_as_by_hand() -> None:
    line = line_of(lambda t: 4 * t * t - t)  # least at 1/8; the parabola through the first trial is exact
    found = backtracking(line, 1.0)
    assert found is not None
    assert found.t == pytest.approx(1 / 8)
    assert np.isclose(found.value, -1 / 16)
    assert line.evaluations == 2


@pytest.mark.parametrize("search", [strong_wolfe, more_thuente])
def test_losses_that_are_one_within_rounding_do_not_bracket_a_minimum(
    search: Callable[..., Trial | None],
) -> None:
    """A loss that seems to rise by an ulp at 1, where the slope still falls: the minimum is at 9."""
    line = line_of(lambda t: 1.0 + 1e-18 * (t - 9.0) ** 2)
    look = line.at
    line.at = lambda t: look(t)._replace(value=1.0 + (2.2e-16 if t < 4 else -2.2e-16 if t < 7 else 0.0))
    found = search(line, 1.0, c1=1e-4, c2=0.4)
    assert found is not None
    assert 4 < found.t < 18  # where the slope is as steep as at 0
    assert line.evaluations <= 4
