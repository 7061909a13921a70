"""Links that add up are settled, or the step ends with an error: never by waiting."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import nn

from downslope.core.errors import RecipeError
from downslope.optim import (
    LARS,
    ClipAdaptive,
    ClipNorm,
    ClipNorm1,
    ClipTensor,
    Custom,
    HeavyBall,
    Muon,
    Prodigy,
    Scalars,
    ScaleByLr,
    Shampoo,
    chain,
    route,
    sums,
)
from downslope.optim.clip_norm import Shortened


def stepped(*links):
    params = [nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(1))]
    params[0].grad, params[1].grad = torch.tensor([3.0, 0.0, 4.0]), torch.tensor([0.5])
    Custom(params, chain(*links, ScaleByLr(lr=1.0))).step()
    return -torch.cat([p.detach() for p in params])


def test_links_are_settled_in_the_order_of_their_chain():
    each, whole = ClipTensor(max_tensor_norm=2.5), ClipNorm1(max_norm=2.0)
    torch.testing.assert_close(stepped(each, whole), torch.tensor([0.75, 0.0, 1.0, 0.25]))
    torch.testing.assert_close(stepped(whole, each), torch.tensor([0.8, 0.0, 16.0 / 15.0, 2.0 / 15.0]))


def test_sums_over_everything_in_different_orders_are_refused_and_nothing_moves_or_counts():
    rest = HeavyBall(momentum=0.9), ScaleByLr(lr=1.0)
    one = chain(ClipNorm(max_norm=1.0), ClipAgain(second_norm=0.5), *rest)
    other = chain(ClipAgain(second_norm=0.5), ClipNorm(max_norm=1.0), *rest)
    params = [nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(2, 2))]
    for p in params:
        p.grad = torch.ones_like(p)
    optimizer = Custom(params, route(({"ndim": [1]}, one), otherwise=other))
    with pytest.raises(
        RecipeError, match=r"^rules that add up .* in different orders [^\n]*; put them in one"
    ):
        optimizer.step()
    assert not any(p.any() for p in params)
    assert not optimizer.state
    alike = Custom(params, route(({"ndim": [1]}, one), otherwise=one))
    alike.step()  # in one order they are taken: 7 ones, cut to a length of 1 and then of 0.5
    torch.testing.assert_close(params[0].detach(), torch.full((3,), -0.5 / 7.0**0.5), rtol=1e-5, atol=0.0)


@dataclass(frozen=True, kw_only=True)
class ClipAgain(Shortened):
    """A second clip by the norm of everything."""

    scope: ClassVar = "global"
    second_norm: float = 1.0

    def at(self, t):
        return Scalars(most=self.second_norm)


LARGE = {
    "LARS": lambda ps, backend: LARS(ps, lr=1.0, backend=backend),
    "decayed LARS": lambda ps, backend: LARS(ps, lr=1.0, weight_decay=0.1, backend=backend),
    "ClipNorm": lambda ps, backend: Custom(ps, chain(ClipNorm(max_norm=1.0), *LAST), backend=backend),
    "ClipTensor": lambda ps, backend: Custom(
        ps, chain(ClipTensor(max_tensor_norm=1.0), *LAST), backend=backend
    ),
    "ClipAdaptive": lambda ps, backend: Custom(ps, chain(ClipAdaptive(), *LAST), backend=backend),
    "Muon": lambda ps, backend: Muon(ps, lr=0.1, ns_precision="float32", matrices=True, backend=backend),
}
LAST = HeavyBall(momentum=0.9), ScaleByLr(lr=1.0)


@pytest.mark.parametrize("size", [1e18, 1e21, 1e30, 1e36])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("backend", ["reference", "eager", "kernel"])
@pytest.mark.parametrize("name", LARGE)
def test_norms_of_large_gradients_are_those_of_float64(name, backend, dtype, size):
    """Their squares overflow in float32, and they themselves do not."""
    draw = torch.Generator().manual_seed(3)
    starts = [torch.randn(shape, generator=draw).to(dtype) for shape in ((12, 9), (30, 40))]
    given = [[(size * torch.randn(p.shape, generator=draw)).to(dtype) for p in starts] for _ in range(3)]
    found = []
    for kind, way in ((torch.float64, "reference"), (dtype, backend)):
        params = [nn.Parameter(p.to(kind, copy=True)) for p in starts]
        try:
            optimizer = LARGE[name](params, way)
        except RecipeError as error:
            pytest.skip(str(error))
        for row in given:
            for p, g in zip(params, row, strict=True):
                p.grad = g.to(kind)
            optimizer.step()
        found.append([p.detach().double() for p in params])
    loose = 4e-2 if dtype == torch.bfloat16 else 2e-3 if name == "Muon" else 1e-5
    for own, wanted, start in zip(found[1], found[0], starts, strict=True):
        assert not torch.equal(own, start.double())
        torch.testing.assert_close(own, wanted, rtol=loose, atol=loose)


@pytest.mark.parametrize("size", [1e12, 1e21, 1e37])
def test_shampoo_steps_by_large_gradients_as_float64_does_by_shorter_ones(size):
    draw = torch.Generator().manual_seed(4)
    start, rows = torch.randn(6, 6, generator=draw), [torch.randn(6, 6, generator=draw) for _ in range(3)]
    ends = []
    for kind, scale in ((torch.float64, 1e3), (torch.float32, size)):
        p = nn.Parameter(start.to(kind, copy=True))
        optimizer = Shampoo([p], lr=0.1, betas=(0.0, 1.0), epsilon=0.0)
        for g in rows:  # the same size of each: its largest element
            p.grad = (g / g.abs().max() * scale).to(kind)
            optimizer.step()
        ends.append(p.detach().double())
    torch.testing.assert_close(ends[1], ends[0], rtol=1e-2, atol=1e-2)


def test_a_gradient_that_is_not_finite_stays_so():
    for bad in (torch.nan, torch.inf):
        p = nn.Parameter(torch.ones(4))
        p.grad = torch.tensor([1.0, bad, 1.0, 1.0])
        Custom([p], chain(ClipNorm(max_norm=1.0), ScaleByLr(lr=1.0))).step()
        assert p.isnan().any()


class Stubborn(list):
    """Loses nothing that is taken from it."""

    def pop(self, i):
        return self[i]

    def __delitem__(self, i):
        pass


def test_links_that_are_never_done_end_the_step(monkeypatch):
    p = nn.Parameter(torch.ones(3))
    p.grad = torch.ones(3)
    optimizer = Prodigy([p])
    monkeypatch.setattr(sums, "list", Stubborn, raising=False)
    with pytest.raises(RuntimeError, match=r"^1 links that add up wait for ever: [^\n]*$"):
        optimizer.step()
