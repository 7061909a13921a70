"""Sharpness against the limit, on quadratics where the steps themselves say who is stable."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import downslope as ds
from downslope import optim
from downslope.core.errors import InputError
from downslope.terrain.ground import Ground, ground_of
from downslope.terrain.stability import stability


class Bowl:
    """``c1 x^2 / 2 + c2 y^2 / 2`` of two parameters of two entries each, turned a little."""

    def __init__(self, first: float, second: float) -> None:
        self.x = nn.Parameter(torch.tensor([1.0, 0.5], dtype=torch.float64))
        self.y = nn.Parameter(torch.tensor([0.3, 1.0], dtype=torch.float64))
        self.first, self.second = first, second

    def loss(self) -> torch.Tensor:
        return self.first * self.x.square().sum() / 2 + self.second * self.y.square().sum() / 2

    @property
    def ground(self) -> Ground:
        return Ground.of_closure(self.loss, [self.x, self.y])

    def furthest(self, optimizer: torch.optim.Optimizer, steps: int = 700) -> float:
        for _ in range(steps):
            optimizer.zero_grad()
            self.loss().backward()
            optimizer.step()
        return float(torch.cat([self.x, self.y]).detach().abs().max())


GROUPS = {
    "one": ({"lr": 0.1}, {"lr": 0.1}, 7.0, 20.0),
    "two rates": ({"lr": 0.1}, {"lr": 0.01}, 7.0, 200.0),
    "two momenta": ({"lr": 0.1, "momentum": 0.5}, {"lr": 0.01, "momentum": 0.9}, 3.0, 380.0),
    "decay of all": ({"lr": 0.1, "weight_decay": 2.0}, {"lr": 0.1, "weight_decay": 2.0}, 3.0, 18.0),
    "decay of some": ({"lr": 0.1}, {"lr": 0.1, "weight_decay": 6.0}, 3.0, 14.0),
    "a rate of zero": ({"lr": 0.1}, {"lr": 0.0}, 20.0, 1e6),
}


@pytest.mark.parametrize("name", GROUPS)
@pytest.mark.parametrize("times", [0.98, 1.02])
def test_below_a_ratio_of_one_steps_shrink_and_above_they_grow(name, times):
    one, two, first, second = GROUPS[name]
    bowl = Bowl(first * times, second * times if name != "a rate of zero" else second)
    if "decay" in name:  # what decays is curvature that the loss does not have
        bowl = Bowl(first, (second + two["weight_decay"]) * times - two["weight_decay"])
    optimizer = torch.optim.SGD([{"params": [bowl.x], **one}, {"params": [bowl.y], **two}], lr=1.0)
    found = stability(bowl.ground, optimizer, tol=1e-6)
    assert found.ratio == pytest.approx(times, rel=0.021 if name == "decay of all" else 1e-6)
    assert (found.ratio > 1) == (times > 1)
    moved = bowl.furthest(optimizer)
    still = 1.0 if name == "a rate of zero" else 0.0
    assert moved > 1e3 if times > 1 else moved <= still + 1e-3


def test_one_group_is_told_in_the_hessian_s_own_terms():
    bowl = Bowl(3.0, 5.0)
    found = stability(bowl.ground, optim.SGD([bowl.x, bowl.y], lr=0.1, weight_decay=1.0))
    assert found.sharpness == pytest.approx(5.0)
    assert found.limit == pytest.approx(19.0)
    assert not found.preconditioned


@pytest.mark.parametrize(
    "make", [torch.optim.Adam, torch.optim.AdamW, optim.Adam, optim.RMSprop, optim.Adagrad]
)
def test_an_adaptive_method_is_seen_through_its_own_scale(make):
    bowl = Bowl(3.0, 50.0)
    groups = [{"params": [bowl.x], "lr": 0.02}, {"params": [bowl.y], "lr": 0.04, "eps": 0.1}]
    optimizer = make(groups, lr=1.0)
    before = stability(bowl.ground, optimizer)
    assert (before.limit, before.ratio) == (None, None)
    assert before.sharpness == pytest.approx(50)
    bowl.furthest(optimizer, steps=5)
    found = stability(bowl.ground, optimizer, tol=1e-8)
    hessian = torch.tensor([3.0, 3.0, 50.0, 50.0], dtype=torch.float64)
    scale = torch.cat([optim.preconditioner(optimizer, p) for p in (bowl.x, bowl.y)])
    limits = [optim.stable_limit(optimizer, group) for group in optimizer.param_groups]
    seen = hessian * scale / torch.tensor([limits[0], limits[0], limits[1], limits[1]])
    assert found.preconditioned
    assert found.ratio == pytest.approx(float(seen.max()), rel=1e-6)


def test_a_copy_is_matched_by_name_and_what_is_not_trained_holds_still():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    x, y = torch.randn(20, 3, dtype=torch.float64), torch.randn(20, 1, dtype=torch.float64)
    closure = lambda: nn.functional.mse_loss(model(x), y)  # noqa: E731
    ground = Ground(
        [(closure, 1.0)], list(model.parameters()), [name for name, _ in model.named_parameters()]
    )
    last = torch.optim.SGD(model[2].parameters(), lr=0.1)
    found = stability(ground, last, tol=1e-9)
    features = torch.cat([torch.tanh(model[0](x)), torch.ones(20, 1)], dim=1).detach()
    assert found.sharpness == pytest.approx(float(torch.linalg.eigvalsh(2 * features.T @ features / 20)[-1]))
    import copy

    twin = copy.deepcopy(model)
    other = torch.optim.SGD(twin[2].parameters(), lr=0.1)
    assert stability(ground, other, twin, tol=1e-9).sharpness == pytest.approx(found.sharpness)
    with pytest.raises(InputError, match="hand over the model"):
        stability(ground, other)


def test_a_method_that_is_not_known_has_a_sharpness_and_no_limit():
    bowl = Bowl(3.0, 5.0)
    found = stability(bowl.ground, torch.optim.Rprop([bowl.x, bowl.y]))
    assert found.sharpness == pytest.approx(5)
    assert found.limit is None
    assert found.why is not None
    assert "signs" in found.why


def test_what_is_not_finite_is_told():
    bowl = Bowl(3.0, math.inf)
    found = stability(bowl.ground, torch.optim.SGD([bowl.x, bowl.y], lr=0.1))
    assert found.status == "non-finite"
    assert math.isnan(found.sharpness)


def dense_in_training(model, x, y, optimizer, steps):
    """The largest eigenvalue of ``D^(1/2) H D^(1/2)`` in training mode, D as Adam's paper has it."""
    import copy

    wide = copy.deepcopy(model).double().train()
    named = dict(wide.named_parameters())

    def loss(theta):
        parts = theta.split([p.numel() for p in named.values()])
        shaped = {name: part.view_as(p) for part, (name, p) in zip(parts, named.items(), strict=True)}
        return nn.functional.cross_entropy(
            torch.func.functional_call(copy.deepcopy(wide), shaped, (x.double(),)), y
        )

    theta = torch.cat([p.detach().reshape(-1) for p in named.values()])
    v = torch.cat([optimizer.state[p]["exp_avg_sq"].reshape(-1).double() for p in model.parameters()])
    root = (1 / ((v / (1 - 0.999**steps)).sqrt() + 1e-8)).sqrt()
    seen = root[:, None] * torch.autograd.functional.hessian(loss, theta) * root
    return float(torch.linalg.eigvalsh(seen)[-1])


def test_what_has_no_slope_in_training_does_not_spoil_adam_s_sharpness():
    """A bias before batch norm: no slope in training, a scale of 1e7, curvature with frozen statistics."""
    torch.manual_seed(0)
    x, y = torch.randn(48, 4), torch.randint(0, 3, (48,))
    problem = ds.Problem(
        model=lambda: nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 3)),
        objective="cross_entropy",
        train=(x, y),
    )
    model = problem.build(0)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(80):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    truth = dense_in_training(model, x, y, optimizer, 80)
    ground = ground_of(problem, model, training=True)
    found = stability(ground, optimizer, model, tol=1e-6, steps=60)
    assert found.sharpness == pytest.approx(truth, rel=1e-4)
    assert found.why is None
    assert any("statistics of the examples measured on" in each for each in ground.notes)
    elsewhere = stability(ground_of(problem, model), optimizer, model, tol=1e-6, steps=60)
    assert elsewhere.sharpness < 10 * truth
    assert "6 of 63 entries, such as of 0.bias, have gradients here" in (elsewhere.why or "")


@pytest.mark.parametrize(
    "make", [torch.optim.NAdam, torch.optim.RAdam, torch.optim.Adamax, torch.optim.Adadelta]
)
def test_adaptive_methods_of_torch_alone_have_their_own_scale_and_limit(make):
    bowl = Bowl(3.0, 50.0)
    optimizer = make([bowl.x, bowl.y], lr=0.02)
    before = stability(bowl.ground, optimizer)
    assert (before.limit, before.ratio) == (None, None)
    assert "before its first step" in (before.why or "")
    bowl.furthest(optimizer, steps=9)
    found = stability(bowl.ground, optimizer, tol=1e-8)
    scale = torch.cat([optim.preconditioner(optimizer, p) for p in (bowl.x, bowl.y)])
    felt = float((torch.tensor([3.0, 3.0, 50.0, 50.0], dtype=torch.float64) * scale).max())
    assert found.sharpness == pytest.approx(felt, rel=1e-6)
    assert found.ratio == pytest.approx(
        felt / optim.stable_limit(optimizer, optimizer.param_groups[0]), rel=1e-6
    )
    assert found.why is None
