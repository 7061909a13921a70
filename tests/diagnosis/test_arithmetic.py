"""The operation at which a watched loss left the finite numbers, while all that it was given was finite."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import downslope as ds
from downslope.diagnosis.diagnosis import Diagnosis
from downslope.diagnosis.inquest import autopsy

Formula = Callable[[Tensor, Tensor, int], Tensor]


def by_hand(output: Tensor, target: Tensor, step: int) -> Tensor:
    """The binary cross-entropy of a probability that rounds to 1 in one batch."""
    p = torch.sigmoid(output + 40 * (step == 12))
    return -(target * p.log() + (1 - target) * (1 - p).log()).mean()


def of_none(output: Tensor, target: Tensor, step: int) -> Tensor:
    """A mean over examples of which a batch has none."""
    errors = (output - target).square()
    return errors.mean() + (errors * 0).sum() / (errors * 0 + (step != 12)).sum()


def weighted(output: Tensor, target: Tensor, step: int) -> Tensor:
    """Terms weighted by their own size, of which one has come to zero."""
    terms = torch.stack([(output - target).square().mean(), output.mean().square() * (step != 12)])
    return (terms * (terms / terms).detach()[1]).sum()


def loop(formula: Formula, *, lr: float = 0.05, spoilt: bool = False) -> Diagnosis:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(640, 10, generator=draw)
    y = (x.sum(1, keepdim=True) > 0).float()
    if spoilt:
        y[12 * 32 + 5] = math.nan
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 1))
    rule = torch.optim.SGD(model.parameters(), lr)
    with ds.watch(model, rule) as monitor:
        for step in range(20):
            at = slice(step * 32, step * 32 + 32)
            loss = formula(model(x[at]), y[at], step)
            rule.zero_grad()
            monitor.step(loss)
            loss.backward()
            rule.step()
        return monitor.diagnose()


@pytest.mark.parametrize(
    ("formula", "words"), [(by_hand, "a logarithm of 0"), (of_none, "a quotient of 0"), (weighted, "is nan")]
)
def test_an_operation_without_a_finite_value_is_named_with_its_step(formula: Formula, words: str) -> None:
    root = loop(formula).root
    assert root is not None
    assert root.symptom == "unstable-objective"
    assert words in root.message
    assert root.where.steps == (13, 13)


def test_what_the_data_or_a_large_step_made_is_not_put_down_to_the_formula() -> None:
    spoilt = loop(lambda output, target, _: by_hand(output, target, 0), spoilt=True).root
    assert spoilt is not None
    assert spoilt.symptom == "non-finite-data"
    thrown = loop(lambda output, target, _: (output - target).square().mean(), lr=1e3).root
    assert thrown is not None
    assert thrown.symptom == "learning-rate-too-high"


def test_operations_that_have_a_value_are_left_alone() -> None:
    x = torch.rand(8, 3, requires_grad=True)
    loss = (x.log() + 1 / (x + 1) + x.sqrt() + x**3 + x.exp()).sum() * math.inf
    assert autopsy(loss) == {"arithmetic": {"operation": "a weight of a term", "given": math.inf, "count": 1}}
    assert autopsy(x.log().sum() + x.sqrt().sum() + (x * 2).exp().sum()) == {}
    told = autopsy((x - 2).sqrt().sum())["arithmetic"]
    assert (told["operation"], told["count"]) == ("a root", 24)
