"""Finite sums against their functions, and critical points against their gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from downslope.core.errors import InputError
from downslope.core.problem import Problem
from downslope.terrain.escapes.sites import learnt, site_of, tilted
from downslope.terrain.escapes.sites.learnt import deep_linear


def slopes(site, points, rows=None):
    at = points.clone().requires_grad_()
    return torch.autograd.grad(site.loss(at, rows).sum(), [at])[0]


@pytest.mark.parametrize(
    "name",
    [
        "saddle",
        "monkey_saddle",
        "double_well(tilt=0.1)",
        "himmelblau",
        "x_cos_pi_x",
        "deep_linear",
        "symmetric_mlp",
    ],
)
def test_a_site_is_critical_and_its_examples_have_the_whole_as_their_mean(name):
    site = site_of(name)
    assert float(slopes(site, site.point[None]).norm()) < 1e-7
    draw = torch.Generator().manual_seed(0)
    points = site.point + 0.1 * torch.randn(1, len(site.point), generator=draw, dtype=torch.float64)
    each = slopes(site, points.expand(site.examples, -1), torch.arange(site.examples)[:, None])
    assert each.mean(0).numpy() == pytest.approx(slopes(site, points)[0].numpy(), abs=1e-10)


def test_a_minimum_is_left_where_another_begins():
    left = site_of("x_cos_pi_x").inside  # its only saddle-free minimum that is not global, left of a top
    assert left(torch.tensor([[-0.5], [0.27], [0.28], [1.09]]))[:, None].tolist() == [
        [True],
        [True],
        [False],
        [False],
    ]
    wells = site_of("double_well", point="minimum")
    assert float(wells.point[0]) == pytest.approx(-1.0)
    assert wells.inside(torch.tensor([[-0.01, 5.0], [0.01, 0.0]])).tolist() == [True, False]
    assert float(site_of("double_well(tilt=0.1)", point="minimum").point[0]) > 0.9  # the higher of the two


def test_a_saddle_is_left_half_way_to_the_next_critical_point():
    site = site_of("double_well", point="saddle")
    assert site.inside(torch.tensor([[0.49, 0.0], [0.51, 0.0]])).tolist() == [True, False]
    assert site_of("double_well", point=[0.001, 0.0]).point.tolist() == [0.0, 0.0]


def test_the_noise_of_a_batch_is_what_sampling_without_replacement_gives():
    site = tilted(lambda p: p.square().sum(-1), torch.zeros(3), name="bowl", noise=2.0, examples=50)
    draw = torch.Generator().manual_seed(0)
    rows = torch.stack([torch.randperm(50, generator=draw)[:5] for _ in range(20000)])
    seen = np.cov(slopes(site, torch.zeros(20000, 3, dtype=torch.float64), rows).T)
    expected = 4.0 / 5 * (50 - 5) / (50 - 1)
    assert seen == pytest.approx(expected * np.eye(3), abs=0.03)


def test_the_origin_of_a_linear_net_is_strict_at_depth_two_and_flat_from_three():
    def eigenvalues(depth):
        site = deep_linear(depth=depth)
        return torch.linalg.eigvalsh(
            torch.autograd.functional.hessian(lambda p: site.whole(p[None])[0], site.point)
        )

    two, three = eigenvalues(2), eigenvalues(3)
    # Saxe et al.: the singular values of the correlation, 2 (2/3) 2^-k of a mean over 3 outputs, both signs.
    assert two[::3][:3].numpy() == pytest.approx([-4 / 3, -2 / 3, -1 / 3], rel=0.15)
    assert two[0] == pytest.approx(-float(two[-1]), rel=1e-9)
    assert float(three.abs().max()) < 1e-12


def test_members_go_through_a_model_as_each_would_alone_even_without_a_vectorised_form():
    class Branching(nn.Module):
        """Asks for a number in its forward, which no vectorised map can give."""

        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 1)

        def forward(self, x):
            return self.layer(x) if float(self.layer.bias.detach()) > 0 else -self.layer(x)

    torch.manual_seed(0)
    x, y = torch.randn(12, 2), torch.randn(12, 1)
    model = Branching()
    site = learnt(Problem(model=model, objective="squared_error", train=(x, y)), model)
    points = site.point + torch.randn(3, 3, dtype=torch.float64)
    rows = torch.tensor([[0, 1], [2, 3], [4, 5]])
    for value, point, own in zip(site.loss(points, rows), points, rows, strict=True):
        sign = 1.0 if float(point[2]) > 0 else -1.0
        output = sign * (x[own].double() @ point[:2] + point[2])
        assert float(value) == pytest.approx(float((output - y[own, 0].double()).square().mean()))


def test_tied_weights_move_together():
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
            self.second.weight = self.first.weight

        def forward(self, x):
            return self.second(self.first(x))

    model = Tied()
    x = torch.randn(8, 2, generator=torch.Generator().manual_seed(0))
    site = learnt(Problem(model=model, objective="squared_error", train=(x, x)), model)
    point = torch.tensor([[0.5, 0.1, -0.2, 0.3]], dtype=torch.float64)
    w = point.reshape(2, 2)
    expected = (x.double() @ w.T @ w.T - x.double()).square().mean()
    assert float(site.whole(point)) == pytest.approx(float(expected))


def test_attention_in_evaluation_mode_has_a_slope_and_a_curvature_for_every_member():
    class Attends(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(5, 4)
            self.layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
            self.head = nn.Linear(4, 2)

        def forward(self, x):
            return self.head(self.layer(self.embed(x)).mean(1))

    draw = torch.Generator().manual_seed(0)
    x, y = torch.randint(0, 5, (10, 3), generator=draw), torch.randint(0, 2, (10,), generator=draw)
    model = Attends()
    site = learnt(Problem(model=model, objective="cross_entropy", train=(x, y)), model)
    points = site.point + 0.1 * torch.randn(2, len(site.point), dtype=torch.float64)
    assert bool(slopes(site, points).isfinite().all())
    expected = nn.functional.cross_entropy(model.double().eval()(x), y)
    assert float(site.whole(site.point[None])[0]) == pytest.approx(expected.item())


def test_a_site_of_ones_own_takes_nothing_more_and_networks_their_examples():
    site = tilted(lambda p: p.square().sum(-1), torch.zeros(2), name="bowl", inside=lambda p: p[:, 0] < 1)
    assert site_of(site) is site
    assert site.region == "inside the region given"
    with pytest.raises(InputError, match="noise= does not belong to a site"):
        site_of(site, noise=1.0)
    assert site_of("deep_linear", examples=64).examples == 64
