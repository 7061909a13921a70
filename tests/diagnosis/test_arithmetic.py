"""The operation at which a watched loss left the finite numbers, while all that it was given was finite."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

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


def ignoring(rows: Tensor) -> Diagnosis:
    """A classifier of which the batches in `rows` have only targets that are left out."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(60 * 8, 10, generator=draw)
    y = (x.sum(1) > 0).long()
    y.reshape(60, 8)[rows] = -100
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 2))
    rule = torch.optim.SGD(model.parameters(), 0.5)
    with ds.watch(model, rule) as monitor:
        for a, b in zip(x.split(8), y.split(8), strict=True):
            loss = functional.cross_entropy(model(a), b)
            rule.zero_grad()
            monitor.step(loss)
            loss.backward()
            rule.step()
        return monitor.diagnose()


def test_batches_without_a_target_that_counts_are_told_and_move_nothing() -> None:
    """The gradient of such a batch is 0, by torch: only the loss is not finite."""
    found = ignoring(torch.arange(3, 60, 7))
    told = next(each for each in found.findings if each.symptom == "unstable-objective")
    assert found.healthy
    assert told.severity == "info"
    assert "9 of 60 losses" in told.message
    assert "the first at step 4" in told.message
    assert "ignore_index (-100)" in told.message
    assert "clamp(min=1)" in told.message
    assert not found.verdict.startswith("LOST")
    calm = ignoring(torch.tensor([], dtype=torch.long))
    assert "unstable-objective" not in calm.symptoms


def test_a_mean_over_nothing_is_told_by_what_there_was_none_of() -> None:
    scores = torch.randn(4, 3, requires_grad=True)
    empty = autopsy(scores[:0].mean())["arithmetic"]
    assert empty == {"operation": "a mean over none", "given": 0.0, "count": 1}
    weight = torch.tensor([0.0, 1.0, 1.0])
    weightless = autopsy(functional.cross_entropy(scores, torch.zeros(4, dtype=torch.long), weight=weight))
    assert weightless["arithmetic"] == empty | {"of": 4}
    some = torch.tensor([-100, -100, 1, 2])
    assert autopsy(functional.cross_entropy(scores, some)) == {}


def test_a_loss_that_the_loop_skips_is_counted_and_alarms_nobody() -> None:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(80 * 16, 10, generator=draw)
    y = x.sum(1, keepdim=True)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 1))
    rule = torch.optim.Adam(model.parameters(), 1e-2)
    with ds.watch(model, rule) as monitor:
        for step, (a, b) in enumerate(zip(x.split(16), y.split(16), strict=True)):
            loss = functional.mse_loss(model(a), b) * (math.nan if step % 7 == 3 else 1.0)
            rule.zero_grad()
            monitor.step(loss)
            loss.backward()
            if bool(torch.isfinite(loss)):
                rule.step()
        found = monitor.diagnose()
    assert found.healthy
    told = next(each for each in found.findings if each.symptom == "unstable-objective")
    assert "11 of 80 losses" in told.message
    assert bool(torch.isfinite(torch.tensor(found.run.history["train_loss"])).all())
