"""Stable limits and preconditioners against what the optimizers really do, ours and torch's."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from downslope import optim


def furthest(make, curvature, steps, start=1.0):
    """The largest |x| over the last quarter of a run on ``curvature x**2 / 2``, over the start."""
    x = nn.Parameter(torch.tensor([start], dtype=torch.float64))
    optimizer = make([x])
    seen = 0.0
    for t in range(steps):
        x.grad = curvature * x.detach()
        optimizer.step()
        if t >= 3 * steps // 4:
            seen = max(seen, abs(float(x.detach())))
    return seen / start


def left(beta):
    """What a mean leaves of a gradient of 1, -1, 1, ..."""
    return (1 - beta) / (1 + beta)


ADAN = left(0.98) + 0.92 * 2 * left(0.92)


@pytest.mark.parametrize(
    ("make", "limit"),
    [
        (lambda p: optim.GD(p, lr=0.1), 20.0),
        (lambda p: optim.SGD(p, lr=0.1, weight_decay=3.0), 17.0),
        (lambda p: optim.Momentum(p, lr=0.1, momentum=0.9), 38.0),
        (lambda p: optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.5), 76.0),
        (lambda p: optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=2.0), 36.0),
        (lambda p: optim.Nesterov(p, lr=0.1, momentum=0.9), 38.0 / 2.8),
        (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.5, nesterov=True), 30.0 / 2.0),
        (lambda p: torch.optim.SGD(p, lr=0.1), 20.0),
        (lambda p: optim.AveragedMomentum(p, lr=0.1, momentum=0.9, weight_decay=3.0), 377.0),
    ],
    ids=[
        "gd",
        "decayed",
        "momentum",
        "dampened",
        "decayed momentum",
        "nesterov",
        "torch nesterov",
        "torch sgd",
        "averaged",
    ],
)
def test_steps_shrink_below_the_limit_and_grow_above(make, limit):
    optimizer = make([nn.Parameter(torch.zeros(1))])
    assert optim.stable_limit(optimizer, optimizer.param_groups[0]) == pytest.approx(limit)
    assert furthest(make, 0.98 * limit, 1000) < 1e-3
    assert furthest(make, 1.02 * limit, 1000) > 1e3


@pytest.mark.parametrize(
    ("make", "limit"),
    [
        (lambda p: optim.Adam(p, lr=0.1, eps=1.0), 380.0),
        (lambda p: torch.optim.Adam(p, lr=0.1, betas=(0.5, 0.999), eps=1.0), 60.0),
        (lambda p: optim.AdamW(p, lr=0.1, eps=1.0, weight_decay=2.0), 342.0),
        (lambda p: optim.RMSprop(p, lr=0.1, eps=1.0), 20.0),
        (lambda p: optim.RMSprop(p, lr=0.1, eps=1.0, momentum=0.9), 38.0),
        (lambda p: optim.Adagrad(p, lr=0.1, eps=1.0), 20.0),
        (lambda p: torch.optim.Adadelta(p, lr=0.1, eps=1.0), 20.0),
        (lambda p: torch.optim.Adamax(p, lr=0.1, eps=1.0), 380.0),
        (lambda p: torch.optim.RAdam(p, lr=0.1, betas=(0.9, 0.6)), 380.0),  # which never scales
        (lambda p: torch.optim.NAdam(p, lr=0.1, eps=1.0, momentum_decay=300.0), 380.0 / 2.8),
        (
            lambda p: torch.optim.NAdam(
                p, lr=0.1, eps=1.0, momentum_decay=300.0, weight_decay=2.0, decoupled_weight_decay=True
            ),
            342.0 / 2.8,
        ),
        (lambda p: optim.NAdam(p, lr=0.1, eps=1.0, momentum_decay=300.0), 380.0 / 2.8),
        (lambda p: optim.AdaBelief(p, lr=0.1, eps=1.0, eps_root=0.0, weight_decay=2.0), 342.0),
        (
            lambda p: optim.AdEMAMix(p, lr=0.1, eps=1.0, betas=(0.9, 0.99, 0.95), alpha=8.0),
            20 / (left(0.9) + 8 * left(0.95)),
        ),
        (lambda p: optim.Adan(p, lr=0.1, eps=1.0), 20 / ADAN),
        (lambda p: optim.Adan(p, lr=0.1, eps=1.0, weight_decay=2.0), 22 / ADAN),
        (lambda p: optim.Adan(p, lr=0.1, eps=1.0, weight_decay=2.0, no_prox=True), 18 / ADAN),
    ],
    ids=[
        "adam",
        "torch adam .5",
        "adamw",
        "rmsprop",
        "rmsprop momentum",
        "adagrad",
        "adadelta",
        "adamax",
        "radam",
        "nadam",
        "decayed nadam",
        "our nadam",
        "adabelief",
        "ademamix",
        "adan",
        "proximal adan",
        "decayed adan",
    ],
)
def test_adaptive_limit_is_that_of_the_preconditioned_curvature(make, limit):
    """With eps 1 and gradients of 1e-40 the preconditioner is 1, and the method is linear."""
    optimizer = make([nn.Parameter(torch.zeros(1))])
    assert optim.stable_limit(optimizer, optimizer.param_groups[0]) == pytest.approx(limit)
    assert furthest(make, 0.98 * limit, 2500, start=1e-40) < 1e-2
    assert furthest(make, 1.02 * limit, 1500, start=1e-40) > 1e2


@pytest.mark.parametrize("beta", [0.3, 0.5])
def test_limit_of_schedule_free_in_the_long_run_is_that_of_an_average_that_stands(beta):
    sgd = lambda p: optim.ScheduleFreeSGD(p, lr=0.1, momentum=beta, weight_decay=1.0)  # noqa: E731
    limit = optim.stable_limit("schedule_free_sgd", {"lr": 0.1, "momentum": beta, "weight_decay": 1.0})
    assert limit == pytest.approx(20 / (1 - beta) - 1)
    assert furthest(sgd, 0.97 * limit, 1500) < 1e-2
    assert furthest(sgd, 1.03 * limit, 1500) > 1e3
    own = {"lr": 0.1, "betas": (beta, 0.999), "eps": 1.0, "weight_decay": 2.0, "inner_momentum": 0.5}
    limit = optim.stable_limit("schedule_free_adamw", own)
    assert limit == pytest.approx(3 * (20 / (1 - beta) - 2))
    assert furthest(lambda p: optim.ScheduleFreeAdamW(p, **own), 0.95 * limit, 1500, start=1e-60) < 1e-2
    assert furthest(lambda p: optim.ScheduleFreeAdamW(p, **own), 1.05 * limit, 1500, start=1e-60) > 1e2


@pytest.mark.parametrize("steps", [1, 3, 40])
def test_limit_of_schedule_free_on_the_way_is_that_of_the_share_that_its_average_takes(steps):
    """A step is a linear map of (y, z); with the share held where it is, its roots tell the limit."""
    p = nn.Parameter(torch.ones(1, dtype=torch.float64))
    optimizer = optim.ScheduleFreeSGD([p], lr=0.1, r=1.0)
    for _ in range(steps):
        p.grad = torch.zeros_like(p)
        optimizer.step()
    limit = optim.stable_limit(optimizer, optimizer.param_groups[0])
    c = 2 / (steps + 1)
    for share, stable in ((0.99, True), (1.01, False)):
        y = lambda y, z, h=share * limit: (1 - c) * y + c * z - 0.1 * (1 - 0.9 * (1 - c)) * h * y  # noqa: E731
        z = lambda y, z, h=share * limit: z - 0.1 * h * y  # noqa: E731
        roots = torch.linalg.eigvals(torch.tensor([[y(1, 0), y(0, 1)], [z(1, 0), z(0, 1)]])).abs().max()
        assert (float(roots) < 1) == stable


def test_limit_by_name_and_for_rates_of_zero():
    assert optim.stable_limit("sgd", {"lr": 0.5}) == 4.0
    assert optim.stable_limit("torch.optim:Adam", {"lr": 1.0, "betas": (0.9, 0.99)}) == pytest.approx(38.0)
    assert optim.stable_limit("gd", {"lr": 0.0}) == math.inf
    assert optim.stable_limit("sgd", {"lr": 1.0, "momentum": 0.5, "dampening": 1.0}) == math.inf
    assert optim.stable_limit("torch.optim:NAdam", {"lr": 1.0, "betas": (0.9, 0.99)}) == pytest.approx(
        38 / 2.8
    )
    assert optim.stable_limit("torch.optim:Rprop", {"lr": 1.0}) is None
    assert optim.method_of(torch.optim.ASGD([nn.Parameter(torch.zeros(1))])) is None


@pytest.mark.parametrize("curvature", [3.4, 3.8])
def test_the_limit_of_nadam_early_on_is_that_of_the_momentum_it_has_by_then(curvature):
    """At ``momentum_decay=0`` it stays there: mu is half of b1 for good, while m is a mean over b1."""
    make = lambda p: torch.optim.NAdam(p, lr=1.0, eps=1.0, momentum_decay=0.0)  # noqa: E731
    p = nn.Parameter(torch.full((1,), 1e-40, dtype=torch.float64))
    optimizer = make([p])
    for _ in range(60):
        p.grad = 0.1 * p.detach()
        optimizer.step()
    limit = optim.stable_limit(optimizer, optimizer.param_groups[0])
    assert limit == pytest.approx(2 / (0.55 + 0.45 / 19))
    grown = furthest(make, curvature, 1500, start=1e-40)
    assert grown > 1e2 if curvature > limit else grown < 1e-2


def test_why_there_is_no_limit_is_told():
    class Own(torch.optim.Optimizer):
        def __init__(self, params):
            super().__init__(params, {"lr": 0.1})

    p = [nn.Parameter(torch.ones(1))]
    assert optim.why_unlimited(Own(p)).startswith("no stable limit is known for one's own method, Own")
    for method in (torch.optim.Rprop, optim.Lion, optim.Signum):
        assert "signs" in optim.why_unlimited(method(p))
    assert "singular vector" in optim.why_unlimited(optim.Muon(p))
    assert "curvature of its own" in optim.why_unlimited(torch.optim.LBFGS(p))
    assert "before its first step" in optim.why_unlimited(torch.optim.NAdam(p))
    assert optim.why_unlimited(torch.optim.ASGD(p)).startswith("no stable limit is known for ASGD")


@pytest.mark.parametrize(
    "make",
    [
        lambda p: optim.Adagrad(p, lr=0.1, initial_accumulator_value=0.5),
        lambda p: optim.RMSprop(p, lr=0.1),
        lambda p: optim.RMSprop(p, lr=0.1, centered=True),
        lambda p: optim.Adam(p, lr=0.1, betas=(0.0, 0.99)),
        lambda p: optim.AdamW(p, lr=0.1, betas=(0.0, 0.99), weight_decay=0.0),
        lambda p: torch.optim.Adagrad(p, lr=0.1),
        lambda p: torch.optim.RMSprop(p, lr=0.1, centered=True),
        lambda p: torch.optim.Adam(p, lr=0.1, betas=(0.0, 0.99), amsgrad=True),
        lambda p: torch.optim.AdamW(p, lr=0.1, betas=(0.0, 0.99), weight_decay=0.0, fused=True),
        lambda p: torch.optim.NAdam(p, lr=0.1, betas=(0.0, 0.99)),
        lambda p: torch.optim.Adamax(p, lr=0.1, betas=(0.0, 0.99)),
        lambda p: torch.optim.RAdam(p, lr=0.1, betas=(0.0, 0.99)),
        lambda p: torch.optim.RAdam(p, lr=0.1, betas=(0.0, 0.6)),
        lambda p: optim.RAdam(p, lr=0.1, betas=(0.0, 0.99)),
        lambda p: optim.AdaBelief(p, lr=0.1, betas=(0.0, 0.99), eps=1e-2),
        lambda p: optim.AdaBelief(p, lr=0.1, betas=(0.0, 0.99), eps=1e-2, rectify=True),
        lambda p: optim.Adan(p, lr=0.1, betas=(0.0, 0.0, 0.99)),
        lambda p: optim.AdEMAMix(p, lr=0.1, betas=(0.0, 0.99, 0.9), alpha=0.0),
    ],
)
def test_step_without_momentum_is_lr_times_preconditioner_times_gradient(make):
    p = nn.Parameter(torch.randn(4, 3, dtype=torch.float64))
    optimizer = make([p])
    assert optim.preconditioner(optimizer, p) is None
    for _ in range(5):
        p.grad = torch.randn(4, 3, dtype=torch.float64)
        before = p.detach().clone()
        optimizer.step()
        scale = optim.preconditioner(optimizer, p)
        torch.testing.assert_close(before - p.detach(), 0.1 * scale * p.grad, rtol=1e-6, atol=1e-12)


def test_methods_that_do_not_scale_elements_have_no_preconditioner():
    p = nn.Parameter(torch.ones(2))
    for optimizer in (optim.Momentum([p]), torch.optim.SGD([p]), torch.optim.Rprop([p])):
        p.grad = torch.ones(2)
        optimizer.step()
        assert optim.preconditioner(optimizer, p) is None
    assert optim.preconditioner(optim.Adam([nn.Parameter(torch.ones(1))]), p) is None
