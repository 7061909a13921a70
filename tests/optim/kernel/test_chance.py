"""Kernels that round by chance: the bits that the rules draw, right on average, the same on every thread."""

from __future__ import annotations

import copy
import math
from typing import Any, ClassVar, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from downslope import optim
from downslope.core.errors import RecipeError
from downslope.optim import Custom, Rule, Scalars, ScaleByLr, chain
from downslope.optim.kernel.table import PIECE
from downslope.optim.kernel.threads import GRAIN

LENGTHS = (0, 1, 5, 100, PIECE - 1, PIECE + 1, 9 * PIECE + 77)
Held = NamedTuple("Held", [(f"mean{i}", Tensor) for i in range(4)])


class Means(Rule):
    """Four means, of which one never changes; a product is by a power of two, so that fusing it with a sum
    changes no bit."""

    memory: ClassVar = Held
    keys: ClassVar = Held._fields

    def init(self, p):
        return Held(*(torch.zeros_like(p) for _ in Held._fields))

    def at(self, t):
        return Scalars()

    def update(self, g, state, p, k):
        a, b, c, d = state
        return a + g, Held((a + g) * 0.5, b - g, c, (d + p) * 0.25)


def run(backend: str, *, wide: Any = None, seed: int = 3) -> list[Tensor]:
    draw = torch.Generator().manual_seed(1)
    params = [nn.Parameter(torch.randn(n, generator=draw).bfloat16()) for n in LENGTHS]
    params.append(nn.Parameter(torch.randn(40, 50, generator=draw).bfloat16().t()))
    params.append(nn.Parameter(torch.randn(300, 400, generator=draw).bfloat16().t()))
    groups = [{"params": params[::2]}, {"params": params[1::2]}]
    given = {"rounding": "stochastic", "rounding_seed": seed, "state_dtype": wide}
    optimizer = Custom(groups, chain(Means(), ScaleByLr(lr=2.0**-9)), backend=backend, **given)
    for _ in range(3):
        for p in params:
            p.grad = torch.empty_like(p).copy_(torch.randn(p.shape, generator=draw))
        optimizer.step()
    return [each for p in params for each in (p.detach(), *optimizer.state[p].values())]


@pytest.mark.parametrize("wide", [None, "float32"])
def test_kernel_and_rules_draw_the_same_bits(wide):
    ours, theirs = run("kernel", wide=wide), run("reference", wide=wide)
    assert {each.dtype for each in ours} == {each.dtype for each in theirs}
    assert all(map(torch.equal, ours, theirs))
    assert not all(map(torch.equal, ours, run("kernel", wide=wide, seed=4)))


def test_the_bits_do_not_hang_on_threads():
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            found.append(run("kernel"))
    finally:
        torch.set_num_threads(before)
    assert max(LENGTHS) > 2 * GRAIN
    assert all(torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other, strict=True))


@pytest.mark.parametrize("make", [optim.SGD, optim.RMSprop])
def test_steps_far_below_a_unit_move_the_mean_as_they_should(make):
    """Of 2**20 weights at 1, a step of 2**-12, or 1/16 of a unit below 1, moves one in sixteen."""
    n, size = 1 << 20, 2.0**-12
    p = nn.Parameter(torch.ones(n, dtype=torch.bfloat16))
    given = {} if make is optim.SGD else {"alpha": 0.0, "eps": 0.0}
    optimizer = make([p], lr=size, rounding="stochastic", backend="kernel", **given)
    p.grad = torch.ones_like(p)
    optimizer.step()
    assert p.detach().unique().tolist() == [1 - 2.0**-8, 1.0]
    chance = size / 2.0**-8
    moved = float((p.detach() < 1).double().mean())
    assert abs(moved - chance) < 4 * math.sqrt(chance * (1 - chance) / n)


def test_what_is_exact_infinite_or_no_number_stays():
    odd = torch.tensor([math.inf, -math.inf, math.nan, 0.0, -0.0, 1.0, -3.5, 1e-40, 3.3e38])
    p = nn.Parameter(torch.cat([odd.repeat(50), torch.randn(1000)]).bfloat16())
    before = p.detach().clone()
    optimizer = optim.SGD([p], lr=0.5, rounding="stochastic", backend="kernel")
    p.grad = torch.zeros_like(p)
    for _ in range(3):
        optimizer.step()
    assert torch.equal(p.isnan(), before.isnan())
    same = p.detach().view(torch.int16) == before.view(torch.int16)  # zeros keep their signs
    assert (same | before.isnan()).all()


def test_a_resumed_run_repeats_the_bits_and_every_step_draws_new_ones():
    def stepped(optimizer: Any, p: nn.Parameter, steps: int) -> None:
        for _ in range(steps):
            p.grad = torch.full_like(p, 0.25)
            optimizer.step()

    p = nn.Parameter(torch.ones(120_000, dtype=torch.bfloat16))
    optimizer = optim.Adam([p], lr=1e-3, rounding="stochastic", rounding_seed=7)
    assert [row.backend for row in optimizer.plan().rows] == ["kernel"]
    stepped(optimizer, p, 3)
    twin = nn.Parameter(p.detach().clone())
    other = optim.Adam([twin])
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    stepped(optimizer, p, 2)
    stepped(other, twin, 2)
    assert torch.equal(p, twin)
    assert all(torch.equal(v, other.state[twin][key]) for key, v in optimizer.state[p].items())
    again = nn.Parameter(torch.ones(120_000, dtype=torch.bfloat16))
    plain = optim.SGD([again], lr=1e-3, rounding="stochastic")
    again.grad = torch.ones_like(again)
    plain.step()
    first = again.detach().clone()
    with torch.no_grad():
        again.fill_(1.0)
    plain.step()
    assert not torch.equal(first, again)


def test_the_plan_says_who_rounds_by_chance():
    half = [nn.Parameter(torch.ones(400, 300, dtype=torch.bfloat16)) for _ in range(2)]
    given: Any = {"rounding": "stochastic"}

    def told(make: Any, params: Any = half, **more: Any) -> list[str]:
        return [row.backend for row in make(params, **given, **more).plan().rows]

    assert told(optim.AdamW) == told(optim.AdamW, state_dtype="float32") == ["kernel"]
    assert told(optim.AdamW, [nn.Parameter(torch.ones(9, dtype=torch.bfloat16))]) == ["eager"]
    assert told(optim.AdamW, [nn.Parameter(torch.ones(200_000).half())]) == ["eager"]
    assert told(optim.Adafactor) == ["eager"]
    assert told(optim.AdamW, backend="kernel") == ["kernel"]
    with pytest.raises(RecipeError, match=r"^backend='kernel': [^\n]* cannot step bfloat16 [^\n]* stoch"):
        told(optim.Adafactor, backend="kernel")


def test_no_number_is_made_of_a_nan_whose_bits_would_carry_over():
    p = nn.Parameter(torch.ones(400, dtype=torch.bfloat16))
    optimizer = optim.SGD(
        [p], lr=1.0, momentum=0.5, rounding="stochastic", state_dtype="float32", backend="kernel"
    )
    p.grad = torch.zeros_like(p)
    optimizer.step()
    held = optimizer.state[p]["momentum_buffer"]
    held.copy_(torch.full((400,), 0x7FFFFFFF, dtype=torch.int32).view(torch.float32))
    optimizer.step()
    assert p.isnan().all()
