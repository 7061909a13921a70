"""LAMB and LARS: the papers' recurrences, and steps whose length the loss's scale does not change."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from downslope.core.errors import RecipeError
from downslope.optim import LAMB, LARS, SGD, AdamW, Momentum
from downslope.testing.rules import Case, Descent, Hand, RuleContract, gradients, parameters, run
from tests.optim import joint_recurrences as paper

TURNS = ([1.0, 0.0], [0.0, 2.0])


def lamb(name, more=None, **settings):
    return Case(
        name,
        lambda params, backend: LAMB(params, **settings, backend=backend),
        lambda p, g: paper.lamb(p, g, **settings),
        **(more or {}),
    )


class TestLAMB(RuleContract):
    cases = (
        lamb(
            "default",
            {
                "hand": Hand(
                    ([2.50037661, 3.98059713], [2.18852139, 3.6288633]), [3.0, 4.0], TURNS, tolerance=2e-9
                ),
                "descents": (Descent("quadratic", 200, 1e-3, lr=0.03),),
            },
            lr=0.1,
        ),
        lamb("clamped", lr=0.05, clamp=(0.5, 2.0), betas=(0.8, 0.95), weight_decay=0.1, maximize=True),
        lamb("scale", {"invariances": ("scale", "odd")}, lr=0.02, eps=0.0),
        lamb(
            "ratio off",
            {
                "equals": {
                    "AdamW": lambda params, backend: AdamW(
                        params, lr=0.02, eps=1e-6, weight_decay=0.01, backend=backend
                    )
                }
            },
            lr=0.02,
            adapt=False,
        ),
    )


def lars(name, more=None, **settings):
    return Case(
        name,
        lambda params, backend: LARS(params, **settings, backend=backend),
        lambda p, g: paper.lars(p, g, **settings),
        **(more or {}),
    )


class TestLARS(RuleContract):
    cases = (
        lars(
            "paper",
            {
                "hand": Hand(
                    ([2.995001, 3.999998], [2.99050115, 3.99499945]), [3.0, 4.0], TURNS, tolerance=2e-9
                ),
            },
            lr=1.0,
            weight_decay=1e-4,
        ),
        lars("all", lr=3.0, momentum=0.5, dampening=0.2, weight_decay=0.1, trust_coefficient=0.02, eps=0.1),
        lars("nesterov", lr=3.0, nesterov=True, weight_decay=0.1, trust_coefficient=0.01, maximize=True),
        lars(
            "scale",
            {"invariances": ("scale", "odd"), "descents": (Descent("quadratic", 300, 1e-3, lr=30.0),)},
            lr=10.0,
        ),
        lars(
            "rate off",
            {
                "equals": {
                    "SGD": lambda params, backend: SGD(
                        params, lr=0.1, momentum=0.9, weight_decay=0.1, backend=backend
                    )
                }
            },
            lr=0.1,
            weight_decay=0.1,
            adapt=False,
        ),
    )


def test_first_step_of_lamb_has_the_length_of_the_weights_times_lr():
    params = parameters(torch.float64)
    before = [p.detach().clone() for p in params]
    run(LAMB(params, lr=0.01), [[1e4 * g for g in gradients(torch.float64, 1)[0]]])
    for p, start in zip(params, before, strict=True):
        assert (p.detach() - start).norm().item() == pytest.approx(0.01 * start.norm().item(), rel=1e-9)


@pytest.mark.parametrize("make", [LAMB, LARS])
def test_weights_that_start_at_zero_move(make):
    p = nn.Parameter(torch.zeros(3, dtype=torch.float64))
    run(make([p], lr=0.5), [[torch.tensor([1.0, 2.0, -2.0], dtype=torch.float64)]])
    assert p.detach().isfinite().all()
    assert (p.detach() != 0).all()


@pytest.mark.parametrize("make", [LAMB, LARS])
def test_zero_gradient_and_no_decay_leaves_the_weights(make):
    p = nn.Parameter(torch.tensor([1.0, -2.0]))
    run(make([p], lr=0.5, weight_decay=0.0), [[torch.zeros(2)]] * 3)
    assert p.tolist() == [1.0, -2.0]


def test_group_without_ratio_steps_as_adamw_beside_one_with():
    weights, biases, twin = (nn.Parameter(torch.tensor([1.0, 2.0])) for _ in range(3))
    optimizer = LAMB(
        [{"params": [weights]}, {"params": [biases], "adapt": False, "weight_decay": 0.0}], lr=0.01
    )
    given = torch.tensor([0.3, -0.7])
    run(optimizer, [[given, given]] * 5)
    run(AdamW([twin], lr=0.01, eps=1e-6, weight_decay=0.0), [[given]] * 5)
    torch.testing.assert_close(biases, twin)
    assert not torch.equal(biases, weights)


def test_lr_of_lars_stands_inside_of_the_momentum():
    """A rate that falls to nothing leaves what is rolling: unlike torch's form, where it stops at once."""
    p, q = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    inside, outside = LARS([p], lr=0.1, adapt=False), Momentum([q], lr=0.1)
    for optimizer, x in ((inside, p), (outside, q)):
        run(optimizer, [[torch.ones(1)]])
        optimizer.param_groups[0]["lr"] = 0.0
        run(optimizer, [[torch.ones(1)]])
        assert x.item() == pytest.approx(0.81 if x is p else 0.9)


def test_nesterov_with_dampening_is_refused():
    with pytest.raises(RecipeError, match="Nesterov needs momentum over 0 and dampening 0"):
        LARS([nn.Parameter(torch.ones(1))], nesterov=True, dampening=0.1)


@pytest.mark.parametrize(
    ("make", "settings", "said"),
    [
        (LAMB, {"clamp": (0.0, -1.0)}, r"clamp\[1\]=-1: must lie in"),
        (LAMB, {"clamp": 1.0}, "clamp=1.0: must be two numbers"),
        (LAMB, {"adapt": 1}, "adapt=1: must be True or False"),
        (LARS, {"trust_coefficient": -1.0}, "trust_coefficient=-1: must lie in"),
        (LARS, {"eps": -1.0}, "eps=-1: must lie in"),
    ],
)
def test_settings_outside_their_domain_are_refused(make, settings, said):
    with pytest.raises(RecipeError, match=said):
        make([nn.Parameter(torch.ones(1))], **settings)
