"""Clipping links and centralisation: torch's formulas, the papers' recurrences, over groups and dtypes."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from downslope.core.errors import RecipeError
from downslope.optim import (
    Centralise,
    ClipAdaptive,
    ClipNorm,
    ClipTensor,
    ClipValue,
    Custom,
    HeavyBall,
    ScaleByAdam,
    ScaleByLr,
    chain,
    clip_norm,
)
from downslope.testing.rules import Case, Hand, RuleContract, gradients, parameters, run
from tests.optim import joint_recurrences as paper

CONVOLUTION = ((4, 3, 2, 2), (4,), (), (5, 3))


class ClippedSGD(torch.optim.SGD):
    """What users write: torch's clip, then torch's step."""

    def __init__(self, params, max_norm, norm_type, **settings):
        self.clip = (max_norm, norm_type)
        super().__init__(params, **settings, foreach=False)

    def step(self, closure=None):
        params = [p for group in self.param_groups for p in group["params"]]
        torch.nn.utils.clip_grad_norm_(params, *self.clip)
        return super().step(closure)


def by_norm(norm_type, max_norm):
    return Case(
        f"norm {norm_type}",
        lambda params, backend: Custom(
            params, chain(clip_norm(max_norm, norm_type), HeavyBall(), ScaleByLr(lr=0.1)), backend=backend
        ),
        joint=lambda ps, rows: paper.clipped_heavy_ball(
            ps, rows, lr=0.1, max_norm=max_norm, norm_type=norm_type
        ),
        peer=lambda params: ClippedSGD(params, max_norm, norm_type, lr=0.1, momentum=0.9),
        exchanges=norm_type == 2.0,
    )


class TestClipNorm(RuleContract):
    cases = (by_norm(2.0, 6.0), by_norm(1.0, 25.0), by_norm(math.inf, 2.0))


def alone(name, link, recurrence, shapes=CONVOLUTION, **more):
    return Case(
        name,
        lambda params, backend: Custom(params, chain(link, ScaleByLr(lr=0.1)), backend=backend),
        recurrence,
        shapes=shapes,
        **more,
    )


class TestOthers(RuleContract):
    cases = (
        alone(
            "per tensor",
            ClipTensor(max_tensor_norm=1.5),
            lambda p, g: paper.clipped_by_tensor(p, g, lr=0.1, most=1.5),
            hand=Hand(([-0.0899999820, -0.1199999760],), [0.0, 0.0], ([3.0, 4.0],)),
        ),
        alone(
            "by value",
            ClipValue(clip_value=0.7),
            lambda p, g: paper.clipped_by_value(p, g, lr=0.1, most=0.7),
            hand=(1.0 - 0.07, 1.0),
        ),
        alone(
            "adaptive",
            ClipAdaptive(clipping=0.3),
            lambda p, g: paper.clipped_by_unit(p, g, lr=0.1, clipping=0.3),
        ),
        alone("centralised", Centralise(), lambda p, g: paper.centralised(p, g, lr=0.1)),
        alone(
            "centralised filters",
            Centralise(conv_only=True),
            lambda p, g: paper.centralised(p, g, lr=0.1, conv_only=True),
        ),
    )


def stepped(link, start, gradient, dtype=torch.float64):
    p = nn.Parameter(torch.tensor(start, dtype=dtype))
    run(Custom([p], chain(link, ScaleByLr(lr=1.0))), [[torch.tensor(gradient, dtype=dtype)]])
    return torch.tensor(start, dtype=dtype) - p.detach()


@pytest.mark.parametrize("link", [ClipNorm(max_norm=1.0), ClipTensor(max_tensor_norm=1.0)])
def test_three_four_five_is_shortened_to_one_with_torchs_millionth(link):
    moved = stepped(link, [0.0, 0.0], [3.0, 4.0])
    assert moved.tolist() == pytest.approx([0.5999998800000240, 0.799999840000032], abs=1e-15)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradient_as_long_as_the_bound_is_shortened_as_torch_does(dtype):
    moved = stepped(ClipNorm(max_norm=5.0), [0.0, 0.0], [3.0, 4.0], dtype)
    p = nn.Parameter(torch.zeros(2, dtype=dtype))
    p.grad = torch.tensor([3.0, 4.0], dtype=dtype)
    torch.nn.utils.clip_grad_norm_([p], 5.0)
    torch.testing.assert_close(moved, p.grad, rtol=2e-7, atol=0.0)


def test_norm_goes_over_groups_and_dtypes():
    wide, narrow = nn.Parameter(torch.zeros(1, dtype=torch.float64)), nn.Parameter(torch.zeros(1))
    groups = [{"params": [wide]}, {"params": [narrow], "lr": 10.0}]
    optimizer = Custom(groups, chain(ClipNorm(max_norm=1.0), ScaleByLr(lr=1.0)))
    run(optimizer, [[torch.tensor([3.0], dtype=torch.float64), torch.tensor([4.0])]])
    assert [wide.item(), narrow.item()] == pytest.approx([-0.6, -8.0], rel=1e-6)


def test_parameters_without_gradient_do_not_count():
    params = [nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))]
    optimizer = Custom(params, chain(ClipNorm(max_norm=1.0), ScaleByLr(lr=1.0)))
    run(optimizer, [[torch.tensor([4.0]), None]])
    assert params[0].item() == pytest.approx(-1.0, rel=1e-6)


def test_whole_direction_is_kept_by_norm_and_lost_by_tensor():
    whole, apart = parameters(torch.float64), parameters(torch.float64)
    [given] = gradients(torch.float64, 1)
    starts = [p.detach().clone() for p in whole]
    run(Custom(whole, chain(ClipNorm(max_norm=1.0), ScaleByLr(lr=1.0))), [given])
    run(Custom(apart, chain(ClipTensor(max_tensor_norm=0.5), ScaleByLr(lr=1.0))), [given])
    shares = [((s - p) / g).detach().flatten() for s, p, g in zip(starts, whole, given, strict=True)]
    assert torch.cat(shares).std() < 1e-12
    lengths = [(s - p).norm().item() for s, p in zip(starts, apart, strict=True)]
    assert lengths == pytest.approx([0.5] * len(lengths), rel=1e-4)


def test_infinite_bounds_leave_the_chain_as_it_is():
    links = (ClipNorm(), ClipTensor(), ClipValue(), ClipAdaptive(clipping=math.inf))
    assert all(link.idle for link in links)
    optimizer = Custom([nn.Parameter(torch.zeros(3))], chain(*links, ScaleByAdam(), ScaleByLr(lr=0.1)))
    assert optimizer.plan().rows[0].backend == "native"


@pytest.mark.parametrize("norm_type", [1.0, 2.0, math.inf])
def test_norm_that_is_no_number_spreads_as_in_torch(norm_type):
    for bad in (math.nan, math.inf):
        p, q = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))
        run(Custom([p], chain(clip_norm(1.0, norm_type), ScaleByLr(lr=1.0))), [[torch.tensor([1.0, bad])]])
        q.grad = torch.tensor([1.0, bad])
        torch.nn.utils.clip_grad_norm_([q], 1.0, norm_type)
        torch.testing.assert_close(-p.detach(), q.grad, equal_nan=True)


def test_clip_by_value_keeps_what_is_no_number():
    moved = stepped(ClipValue(clip_value=1.0), [0.0, 0.0, 0.0], [math.nan, -math.inf, 0.5])
    assert moved[0].isnan()
    assert moved[1:].tolist() == [-1.0, 0.5]


def test_weights_at_zero_move_under_adaptive_clipping():
    assert stepped(ClipAdaptive(), [[0.0, 0.0]], [[3.0, 4.0]]).norm().item() == pytest.approx(1e-5)


def test_centralised_steps_keep_the_mean_of_a_units_weights():
    [weights, *_] = params = parameters(torch.float64)
    before = weights.detach().mean(dim=1)
    run(Custom(params, chain(Centralise(), HeavyBall(), ScaleByLr(lr=0.1))), gradients(torch.float64, 9))
    torch.testing.assert_close(weights.detach().mean(dim=1), before)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: ClipNorm(max_norm=-1.0), "max_norm=-1: must lie in"),
        (lambda: ClipNorm(max_norm=math.nan), "max_norm=nan: must lie in"),
        (lambda: ClipTensor(max_tensor_norm=-1.0), "max_tensor_norm=-1: must lie in"),
        (lambda: ClipValue(clip_value=-1.0), "clip_value=-1: must lie in"),
        (lambda: ClipAdaptive(clipping=-1.0), "clipping=-1: must lie in"),
        (lambda: Centralise(conv_only=1), "conv_only=1: must be True or False"),
        (lambda: clip_norm(1.0, 3.0), "norm_type=3.0: must be 1, 2 or inf"),
        (lambda: clip_norm(1.0, "fro"), "norm_type='fro': must be 1, 2 or inf"),
    ],
)
def test_bounds_outside_their_domain_are_refused(make, said):
    with pytest.raises(RecipeError, match=said):
        make()
