"""Critical points against those that are known: of classic functions, of linear nets, of random ground."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import nn

from downslope.core.errors import InputError
from downslope.core.problem import Problem
from downslope.terrain import functions
from downslope.terrain.critical.critical import critical_points
from downslope.terrain.critical.random_ground import random_function, signs
from downslope.terrain.escapes.sites import learnt


@pytest.mark.parametrize("name", ["himmelblau", "double_well(tilt=0.1)", "saddle", "x_cos_pi_x"])
def test_all_critical_points_of_a_classic_function_are_found_with_their_kind(name):
    known = functions.get(name)
    found = critical_points(name, starts=100, along=[0])
    seen = {
        tuple(round(x, 6) for x in p): kind
        for p, kind in zip(found.points.tolist(), found.kinds, strict=True)
    }
    for each in known.critical:
        at = next(p for p in seen if math.dist(p, each.at) < 1e-5)
        assert seen[at] == each.kind
    assert found.losses.tolist() == sorted(found.losses.tolist())
    assert int(found.arrived.sum()) + found.stalled == found.tried == 100


def test_a_linear_net_is_critical_at_every_choice_of_its_directions():
    """Baldi and Hornik 1989: the losses at critical points are those of all subsets of singular values."""
    draw = torch.Generator().manual_seed(0)
    x = torch.linalg.qr(torch.randn(32, 2, generator=draw, dtype=torch.float64)).Q * 32**0.5  # white inputs
    y = x @ torch.tensor([[1.5, 0.0], [0.3, 0.8]], dtype=torch.float64)
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)).double()
    problem = Problem(model=model, objective="squared_error", train=(x, y))
    energies = torch.linalg.svdvals(x.T @ y / 32).square().tolist()
    expected = [sum(each) / 2 for n in range(3) for each in itertools.combinations(energies, n)]
    found = critical_points(learnt(problem, model), starts=60, along=[0, 30])
    levels = {round(each, 6) for each in found.losses.tolist()}
    assert levels == {round(each, 6) for each in expected}
    # No minimum but at 0: every other point is a saddle, the higher the more directions lead down.
    assert {kind for kind, loss in zip(found.kinds, found.losses, strict=True) if loss > 1e-9} == {"saddle"}
    assert found.correlation() > 0.8


def test_the_index_rises_with_the_loss_of_a_small_network():
    x = torch.linspace(-2, 2, 24)[:, None]

    def make():
        return nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 1))

    problem = Problem(
        model=make, objective="penalised(squared_error, l2=0.01)", train=(x, torch.sin(2.5 * x))
    )
    found = critical_points(problem, starts=10, along=[30, 100, 300], steps=60)
    assert len(found) >= 5
    assert found.correlation() > 0.5
    # Each is critical to the tolerance, by torch's own gradient of the penalised loss.
    model = make().double()
    at, count = found.points[-1], 0
    for p in model.parameters():
        p.data = at[count : count + p.numel()].reshape(p.shape).clone()
        count += p.numel()
    risk = (model(x.double()) - torch.sin(2.5 * x.double())).square().mean()
    loss = risk + problem.objective.penalties(model)["l2"]
    slopes = torch.autograd.grad(loss, list(model.parameters()))
    assert loss.item() == pytest.approx(float(found.losses[-1]))
    assert max(float(each.abs().max()) for each in slopes) < 1e-7


def test_where_the_gradient_only_becomes_shallow_there_is_no_critical_point():
    """The gradient of x^3/3 + x is shortest at 0, and 1 there."""
    found = critical_points(
        lambda p: p[..., 0] ** 3 / 3 + p[..., 0], starts=torch.tensor([[0.5], [-2.0]]), along=[0], steps=100
    )
    assert len(found) == 0
    assert found.stalled == 2
    assert "2 of 2 starts stalled" in str(found)


@pytest.mark.parametrize(
    ("dimension", "positive"), [(1, 0.5), (2, (2 - 2**0.5) / 4), (3, 0.25 - 2**-0.5 / math.pi)]
)
def test_random_matrices_are_positive_as_often_as_the_integrals_say(dimension, positive):
    draws = 40000
    found = signs(dimension, draws)
    error = math.sqrt(positive * (1 - positive) / draws)
    assert found.minima / draws == pytest.approx(positive, abs=4 * error)
    assert found.maxima / draws == pytest.approx(positive, abs=4 * error)
    low, high = found.interval
    assert low <= found.saddles <= high


def test_the_share_of_saddles_of_random_functions_grows_with_the_dimension_and_their_index_with_the_height():
    shares = []
    for dimension in (1, 2, 4):
        found = critical_points(random_function(dimension, 1), starts=150, along=[0], steps=60)
        shares.append(found.kinds.count("saddle") / len(found))
    assert shares[0] == 0 < shares[1] < shares[2]
    assert found.correlation() > 0.6


def test_a_random_function_has_the_covariance_that_it_claims():
    points = torch.zeros(3, 2, dtype=torch.float64)
    points[1, 0], points[2, 1] = 1.0, 2.0
    values = torch.stack([random_function(2, seed, waves=64)(points) for seed in range(4000)])
    seen = values.T @ values / len(values)
    expected = torch.exp(-torch.cdist(points, points).square() / 2)
    assert seen.numpy() == pytest.approx(expected.numpy(), abs=0.06)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"starts": 0}, "starts=0"),
        ({"along": []}, r"along=\[\]"),
        ({"along": [-1]}, r"along=\[-1\]"),
        ({"lr": -1.0}, "lr=-1.0"),
        ({"tol": 0.0}, "tol=0.0"),
        ({"steps": 0}, "steps=0"),
    ],
)
def test_what_cannot_be_used_is_told_in_one_line(settings, said):
    with pytest.raises(InputError, match=said):
        critical_points("saddle", **settings)


def test_a_large_model_and_a_function_without_a_domain_are_refused():
    big = Problem(
        model=lambda: nn.Linear(500, 1),
        objective="squared_error",
        train=(torch.randn(4, 500), torch.randn(4, 1)),
    )
    with pytest.raises(InputError, match="501 parameters are more than 400"):
        critical_points(big)
    with pytest.raises(InputError, match="needs starts="):
        critical_points(lambda p: p.square().sum(-1))
    with pytest.raises(InputError, match="dimension=0"):
        signs(0)
    with pytest.raises(InputError, match="waves=0"):
        random_function(2, waves=0)
