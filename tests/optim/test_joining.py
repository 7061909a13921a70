"""What a chain takes, and what it refuses in one line."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from downslope import optim
from downslope.core.errors import RecipeError


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


def test_averages_may_follow_links_that_hold_weights():
    made = optim.chain(optim.ScaleByLr(), optim.SlowWeights(), optim.WeightMean())
    assert [type(link).__name__ for link in made] == ["ScaleByLr", "SlowWeights", "WeightMean"]
