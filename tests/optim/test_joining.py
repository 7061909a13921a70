"""What a chain takes, and what it refuses in one line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import nn

from downslope import optim
from downslope.core.errors import RecipeError
from downslope.optim.clip_norm import Shortened


def test_a_rule_alone_is_a_chain():
    p = nn.Parameter(torch.zeros(2))
    p.grad = torch.ones(2)
    optim.Custom([p], optim.ScaleByLr(lr=0.1)).step()
    torch.testing.assert_close(p.detach(), torch.full((2,), -0.1))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: optim.chain("adam"), "'adam' is no rule"),
        (lambda: optim.chain(optim.ScaleByAdam), r"ScaleByAdam is a class; make the link: ScaleByAdam\("),
        (lambda: optim.chain(optim.SGD([nn.Parameter(torch.zeros(1))])), "is an optimizer, .* SGD.compose"),
        (lambda: optim.Custom([nn.Parameter(torch.zeros(1))], "sgd"), "'sgd' is no rule"),
        (lambda: optim.chain(optim.WeightMean(), optim.ScaleByLr()), "put WeightMean last"),
        (lambda: optim.chain(optim.WeightEMA(), optim.SlowWeights()), "put WeightEMA last"),
        (lambda: optim.chain(optim.SlowWeights(), optim.ScaleByLr()), "put SlowWeights last"),
        (lambda: optim.chain(optim.ScheduleFree(lr=0.1), optim.ClipValue()), "put ScheduleFree last"),
        (lambda: optim.chain(optim.ScheduleFree(), optim.DecoupledDecay()), "put ScheduleFree last"),
    ],
)
def test_what_is_no_chain_is_refused_in_one_line(make, said):
    with pytest.raises(RecipeError, match=said):
        make()


@dataclass(frozen=True, kw_only=True)
class ClipAgain(Shortened):
    """A second clip by the norm, as the refusal of two has it: its field is named otherwise."""

    scope: ClassVar = "global"
    second_norm: float = 1.0

    def at(self, t):
        return optim.Scalars(most=self.second_norm)


@dataclass(frozen=True, kw_only=True)
class OwnBuffer(optim.Rule):
    """A rule whose state has the name of another's."""

    keys: ClassVar = ("momentum_buffer",)
    mine: float = 0.5


@pytest.mark.parametrize(
    ("links", "said"),
    [
        (
            (optim.ClipNorm(), optim.ClipNorm(), optim.ScaleByLr()),
            "ClipNorm and a second ClipNorm both have a hyper-parameter 'max_norm': .*; keep one, or write "
            "the other as a rule of your own with another field",
        ),
        (
            (optim.ScaleByLr(lr=0.1), optim.ScaleByLr(lr=0.1)),
            "ScaleByLr and a second ScaleByLr both have a hyper-parameter 'lr': .*; keep one, or write",
        ),
        (
            (ClipAgain(), ClipAgain(), optim.ScaleByLr()),
            "ClipAgain and a second ClipAgain both have .* 'second_norm': .*; rename the field in ClipAgain",
        ),
        (
            (optim.HeavyBall(), OwnBuffer(), optim.ScaleByLr()),
            "HeavyBall and OwnBuffer both have a state 'momentum_buffer': .*; rename the key in OwnBuffer",
        ),
    ],
)
def test_two_links_with_one_name_are_refused_with_a_way_that_can_be_gone(links, said):
    with pytest.raises(RecipeError, match=said) as caught:
        optim.chain(*links)
    assert "\n" not in str(caught.value)


def test_a_second_clip_is_a_rule_with_its_field_named_otherwise():
    p = nn.Parameter(torch.zeros(2))
    p.grad = torch.tensor([30.0, 40.0])
    rule = optim.chain(optim.ClipNorm(max_norm=10.0), ClipAgain(second_norm=5.0), optim.ScaleByLr(lr=1.0))
    optim.Custom([p], rule).step()
    torch.testing.assert_close(p.detach(), torch.tensor([-3.0, -4.0]))


def test_averages_may_follow_links_that_hold_weights():
    made = optim.chain(optim.ScaleByLr(), optim.SlowWeights(), optim.WeightMean())
    assert [type(link).__name__ for link in made] == ["ScaleByLr", "SlowWeights", "WeightMean"]
