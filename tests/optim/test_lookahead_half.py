"""Lookahead around parameters of half precision: what the base keeps, exactly or on average, a pull keeps."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from downslope import optim
from downslope.optim import Lookahead

HALVES = (torch.bfloat16, torch.float16)
SIZES = (3_000, 150_000)  # pulled by torch's operations, and by a loop where there is a copy


def walk(p: nn.Parameter, optimizer: torch.optim.Optimizer, steps: int) -> torch.Tensor:
    draw = torch.Generator().manual_seed(1)
    for _ in range(steps):
        p.grad = torch.rand(p.shape, generator=draw).to(p.dtype)
        optimizer.step()
    return p.detach().double()


@pytest.mark.parametrize("base", [optim.SGD, optim.Adam])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", HALVES)
def test_with_a_master_copy_it_is_the_run_in_float32_rounded_once(dtype, size, base) -> None:
    half, full = nn.Parameter(torch.ones(size, dtype=dtype)), nn.Parameter(torch.ones(size))
    ours = Lookahead([half], base_optimizer=base, lr=1e-4, rounding="master")
    theirs = Lookahead([full], base_optimizer=base, lr=1e-4)
    draw = torch.Generator().manual_seed(1)
    for _ in range(33):
        half.grad = torch.rand(size, generator=draw).to(dtype)
        full.grad = half.grad.float()
        ours.step()
        theirs.step()
    assert full.max() < 1.0
    torch.testing.assert_close(ours.state[half]["master"], full.detach(), rtol=1e-6, atol=0.0)
    assert torch.equal(half, ours.state[half]["master"].to(dtype))
    assert torch.equal(ours.evaluated(half), ours.state_dict()["state"][0]["slow"].to(dtype))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", HALVES)
def test_rounded_by_chance_it_is_right_on_average(dtype, size) -> None:
    half = nn.Parameter(torch.ones(size, dtype=dtype))
    optimizer = Lookahead([half], base_optimizer=optim.SGD, lr=1e-4, rounding="stochastic")
    found = walk(half, optimizer, 50)
    draw = torch.Generator().manual_seed(1)
    moved = sum(torch.rand(size, generator=draw).to(dtype).double().mean() for _ in range(50)) * 1e-4
    gap = 2.0**-8 if dtype == torch.bfloat16 else 2.0**-11
    # 55 roundings, each off by less than a gap, and by chance: six standard deviations of the mean of all.
    assert abs(1.0 - 0.5 * float(moved) - float(found.mean())) < 6 * gap * (55 / size) ** 0.5
    assert float(found.mean()) < 1.0


@pytest.mark.parametrize("rounding", ["nearest", "stochastic", "master"])
@pytest.mark.parametrize("dtype", HALVES)
def test_a_saved_run_goes_on_bit_for_bit(dtype, rounding) -> None:
    def made() -> tuple[nn.Parameter, Lookahead]:
        p = nn.Parameter(torch.ones(300, dtype=dtype))
        return p, Lookahead([p], base_optimizer=optim.SGD, lr=1e-3, momentum=0.9, rounding=rounding)

    p, optimizer = made()
    walk(p, optimizer, 7)
    again, other = made()
    with torch.no_grad():
        again.copy_(p)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert torch.equal(walk(p, optimizer, 9), walk(again, other, 9))
    assert torch.equal(other.evaluated(again), optimizer.evaluated(p))


def test_around_a_base_that_has_a_copy_already_the_slow_weights_begin_there() -> None:
    p = nn.Parameter(torch.ones(300, dtype=torch.bfloat16))
    base = optim.SGD([p], lr=1e-3, rounding="master")
    walk(p, base, 1)
    start = base.state[p]["master"].clone()
    optimizer = Lookahead(base, k=1, alpha=0.0)
    walk(p, optimizer, 1)
    assert not torch.equal(start, start.bfloat16().float())
    assert torch.equal(base.state[p]["master"], start)


def test_what_is_written_into_a_parameter_between_base_and_pull_counts() -> None:
    p = nn.Parameter(torch.ones(300, dtype=torch.bfloat16))
    base = optim.SGD([p], lr=1e-3, rounding="master")
    optimizer = Lookahead(base, k=2, alpha=1.0)
    base.register_step_post_hook(lambda *_: p.detach().mul_(0.5))
    walk(p, optimizer, 2)
    assert torch.equal(base.state[p]["master"], p.float())
    assert p.max() <= 0.5
