"""A kernel's sums are those of float64, though it adds short blocks of float32."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from downslope.optim import ClipNorm, Custom, Rule, Scalars, ScaleByLr, chain
from downslope.optim.kernel.emit import BLOCK
from downslope.optim.kernel.table import PIECE

HUGE = 1.5e19
"""Its square fits float32, twice its square does not."""


class Totals(Rule):
    """Steps by the three totals of its tensor: sizes, squares, and what is largest."""

    scope = "tensor"
    measures = ("sizes", "squares", "size")
    peaks = ("size",)

    def init(self, p):
        return ()

    def at(self, t):
        return Scalars()

    def measure(self, g, state, p, k):
        return g.abs(), g * g, g.abs()

    def settle(self, t, k, totals, tally):
        found = torch.stack([totals.sizes, totals.squares, totals.size])
        SEEN.append(found.clone())
        return Scalars(none=0.0 * totals.sizes), {}

    def update(self, g, state, p, k):
        return k.none * g, ()


SEEN = []


def totals(*grads):
    """What a kernel finds for each gradient: a column of three."""
    params = [nn.Parameter(torch.zeros_like(g)) for g in grads]
    optimizer = Custom(params, chain(Totals()), backend="kernel")
    for p, g in zip(params, grads, strict=True):
        p.grad = g
    SEEN.clear()
    optimizer.step()
    return SEEN.pop().unbind(1)


@pytest.mark.parametrize("n", [0, 1, 7, 8, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 33, PIECE, 2 * PIECE + 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_every_element_of_every_length_is_added_once(n, dtype):
    g = (torch.arange(n) % 7 - 3).to(dtype)
    sizes, squares, size = (float(x) for x in totals(g, g[:0])[0])
    whole = [abs(i % 7 - 3) for i in range(n)]
    assert (sizes, squares, size) == (sum(whole), sum(x * x for x in whole), max(whole, default=0))


@pytest.mark.parametrize("value", [0.1, 1.0 / 3.0, 1e-18, 7e17], ids=str)
def test_equal_elements_which_round_the_same_way_all_do_not_drift(value):
    g = torch.full((100_003,), value)
    x = g[0].double().item()
    sizes, squares, size = (float(v) for v in totals(g)[0])
    assert math.isclose(sizes, 100_003 * x, rel_tol=5e-7)
    assert math.isclose(squares, 100_003 * x * x, rel_tol=5e-7)
    assert size == x


def test_small_elements_beside_large_ones_are_not_lost():
    g = torch.full((200_000,), 1e-2)
    g[::BLOCK] = 1e3
    exact = math.fsum(x * x for x in g.double().tolist())
    assert math.isclose(float(totals(g)[0][1]), exact, rel_tol=5e-7)


def test_a_block_that_overflows_float32_is_added_in_float64():
    g = torch.full((3 * BLOCK,), HUGE)
    sizes, squares, size = (float(v) for v in totals(g, torch.ones(5))[0])
    x = g[0].double().item()
    assert math.isclose(squares, 3 * BLOCK * x * x, rel_tol=1e-6)
    assert math.isclose(sizes, 3 * BLOCK * x, rel_tol=1e-6)
    assert size == x


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf], ids=str)
def test_what_is_not_finite_stays_in_the_total_of_its_tensor(bad):
    g = torch.ones(2 * PIECE + 100)
    g[PIECE + 17] = bad
    broken, sound = totals(g, torch.ones(70))
    wanted = torch.tensor(bad, dtype=torch.float64).abs().expand(3)
    torch.testing.assert_close(broken, wanted, equal_nan=True)
    assert sound.tolist() == [70.0, 70.0, 1.0]


def test_totals_are_those_of_the_gradients_of_the_step_wherever_they_lie():
    p = nn.Parameter(torch.zeros(4))
    optimizer = Custom([p], chain(ClipNorm(max_norm=1.0), ScaleByLr(lr=1.0)), backend="kernel")
    p.grad = torch.tensor([4.0, 0.0, 0.0, 0.0])
    optimizer.step()
    p.grad.copy_(torch.tensor([0.0, 0.5, 0.0, 0.0]))
    optimizer.step()
    p.grad = torch.tensor([0.0, 0.0, -8.0, 0.0])
    optimizer.step()
    torch.testing.assert_close(p.detach(), torch.tensor([-1.0, -0.5, 1.0, 0.0]))
