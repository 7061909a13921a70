"""Links that add up are settled, or the step ends with an error: never by waiting."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import nn

from downslope.core.errors import RecipeError
from downslope.optim import (
    ClipNorm,
    ClipNorm1,
    ClipTensor,
    Custom,
    HeavyBall,
    Prodigy,
    Scalars,
    ScaleByLr,
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
