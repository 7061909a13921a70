"""Prodigy: the paper's recurrence over all parameters together; one d for all, read, saved and resumed."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from downslope.core.errors import RecipeError
from downslope.optim import Adam, Prodigy
from downslope.testing.rules import Case, Hand, RuleContract, gradients, parameters, run
from tests.optim import joint_recurrences as paper


def case(name, more=None, **settings):
    return Case(
        name,
        lambda params, backend: Prodigy(params, **settings, backend=backend),
        joint=lambda ps, rows: paper.prodigy(ps, rows, **settings),
        **(more or {}),
    )


class TestProdigy(RuleContract):
    cases = (
        case(
            "default",
            {
                "hand": Hand((0.9999968377, 0.9999957059), tolerance=1e-10),
                # From d = 1e-6 on, the first ways p0 - p are some units in the last place of float32.
                "tolerance": {torch.float32: 3e-4},
            },
        ),
        case("from .01", d0=1e-2, weight_decay=0.1, use_bias_correction=True),
        case(
            "coupled, slow",
            {"tolerance": {torch.float32: 3e-5}},
            d0=1e-3,
            weight_decay=0.1,
            decouple=False,
            growth_rate=1.02,
            d_coef=2.0,
        ),
        case("warm-up", d0=1e-2, lr=0.5, beta3=0.9, safeguard_warmup=True, betas=(0.8, 0.95)),
    )


def test_distance_grows_towards_the_solution_and_is_read_in_two_places():
    x = nn.Parameter(torch.full((4,), 3.0, dtype=torch.float64))
    optimizer = Prodigy([x], use_bias_correction=True)
    assert optimizer.d == optimizer.param_groups[0]["d"] == 1e-6
    seen = []
    for _ in range(300):
        optimizer.zero_grad()
        (x * x).sum().backward()
        optimizer.step()
        seen.append(optimizer.d)
        assert optimizer.param_groups[0]["d"] == optimizer.d
    assert seen == sorted(seen)
    assert 0.3 < seen[-1] < 6.0  # the distance is 3 in each coordinate
    assert x.abs().max().item() < 0.1


def test_d_is_that_of_the_recurrence_at_every_step():
    params, wanted = parameters(torch.float64), []
    rows = gradients(torch.float64, 40)
    paper.prodigy(
        [p.detach().numpy() for p in params], [[g.numpy() for g in row] for row in rows], d0=1e-2, ds=wanted
    )
    optimizer, found = Prodigy(params, d0=1e-2), []
    for row in rows:
        run(optimizer, [row])
        found.append(optimizer.d)
    assert found == pytest.approx(wanted, rel=1e-12)


def test_parameter_that_comes_late_finds_the_d_of_all():
    params = parameters(torch.float64)
    rows = gradients(torch.float64, 30)
    given = [[row[0], row[1], None if t < 12 else row[2], row[3]] for t, row in enumerate(rows)]
    wanted = paper.prodigy(
        [p.detach().numpy() for p in params],
        [[None if g is None else g.numpy() for g in row] for row in given],
        d0=1e-2,
    )
    groups = [{"params": params[:2]}, {"params": params[2:], "weight_decay": 0.0}]
    optimizer = Prodigy(groups, d0=1e-2)
    run(optimizer, given)
    for p, w in zip(params, wanted, strict=True):
        torch.testing.assert_close(p.detach(), torch.as_tensor(w), rtol=1e-11, atol=1e-11)
    assert len({float(state["d"]) for state in optimizer.state.values()}) == 1


def test_schedule_that_begins_and_ends_at_zero_is_the_papers_gamma():
    params = parameters(torch.float64)
    rows = gradients(torch.float64, 9)
    rates = [0.0, 0.5, 1.0, 1.0, 0.0, 1.0, 0.5, 0.25, 0.0]
    wanted = paper.prodigy(
        [p.detach().numpy() for p in params],
        [[g.numpy() for g in row] for row in rows],
        d0=1e-2,
        rates=rates,
    )
    optimizer = Prodigy(params, d0=1e-2)
    for row, rate in zip(rows, rates, strict=True):
        optimizer.param_groups[0]["lr"] = rate
        run(optimizer, [row])
    for p, w in zip(params, wanted, strict=True):
        torch.testing.assert_close(p.detach(), torch.as_tensor(w), rtol=1e-11, atol=1e-11)


def test_group_of_rate_zero_rests():
    params = parameters(torch.float64)
    resting = [p.detach().clone() for p in params[2:]]
    optimizer = Prodigy([{"params": params[:2]}, {"params": params[2:], "lr": 0.0}], d0=1e-2)
    alone = parameters(torch.float64)[:2]
    rows = gradients(torch.float64, 20)
    run(optimizer, rows)
    run(Prodigy(alone, d0=1e-2), [row[:2] for row in rows])
    assert all(torch.equal(p.detach(), start) for p, start in zip(params[2:], resting, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(params[:2], alone, strict=True))


def test_frozen_distance_is_adam_at_that_rate():
    """With d held at d0 and its debiasing on, the steps are Adam's, whose eps is divided by d."""
    ours, theirs = parameters(torch.float64), parameters(torch.float64)
    rows = gradients(torch.float64, 50)
    run(Prodigy(ours, d0=1e-2, growth_rate=1.0, d_coef=1e-12, use_bias_correction=True, eps=0.0), rows)
    run(Adam(theirs, lr=1e-2, eps=0.0), rows)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def test_gradients_of_zero_neither_move_nor_count():
    params = parameters(torch.float64)
    before = [p.detach().clone() for p in params]
    optimizer = Prodigy(params, weight_decay=0.1)
    run(optimizer, [[torch.zeros_like(p) for p in params]] * 3)
    assert all(torch.equal(p.detach(), start) for p, start in zip(params, before, strict=True))
    assert optimizer.d == 1e-6


def test_d_is_saved_and_resumed_in_float32_models_to_the_bit():
    params = parameters(torch.float32)
    optimizer = Prodigy(params)
    run(optimizer, gradients(torch.float32, 7))
    after = Prodigy(parameters(torch.float32))
    after.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert after.d == after.param_groups[0]["d"] == optimizer.d


@pytest.mark.parametrize("name", ["betas", "d0", "d_coef"])
def test_groups_that_would_estimate_d_otherwise_are_refused(name):
    value = (0.5, 0.5) if name == "betas" else 0.5
    p, q = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    with pytest.raises(RecipeError, match=f"{name}=.*d is one number for all parameters"):
        Prodigy([{"params": [p]}, {"params": [q], name: value}])
    optimizer = Prodigy([p])
    with pytest.raises(RecipeError, match="d is one number"):
        optimizer.add_param_group({"params": [q], name: value})
    assert len(optimizer.param_groups) == 1


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"d0": 0.0}, "d0=0: must lie in"),
        ({"d_coef": -1.0}, "d_coef=-1: must lie in"),
        ({"growth_rate": 0.5}, "growth_rate=0.5: must lie in"),
        ({"beta3": 1.0}, "beta3=1: must lie in"),
        ({"decouple": 1}, "decouple=1: must be True or False"),
    ],
)
def test_settings_outside_their_domain_are_refused(settings, said):
    with pytest.raises(RecipeError, match=said):
        Prodigy([nn.Parameter(torch.ones(1))], **settings)
