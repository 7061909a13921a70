"""The loss of data that is read in parts is torch's of all of it: weighted classes, padding, nothing else."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

import downslope as ds
from downslope.training.evaluate import evaluate

DRAW = torch.Generator().manual_seed(0)
X = torch.randn(700, 5, generator=DRAW)
Y = (X[:, 0] + 0.5 * torch.randn(700, generator=DRAW)).mul(1.5).round().clamp(-1, 1).long() + 1
BY_CLASS = Y.argsort()
WEIGHT = torch.tensor([1.0, 20.0, 0.1])


def problem(objective: Any, x: Tensor, y: Tensor, outputs: int = 3) -> ds.Problem:
    loader = DataLoader(TensorDataset(x, y), batch_size=32)

    def model() -> nn.Module:
        torch.manual_seed(3)
        return nn.Linear(5, outputs).double()

    return ds.Problem(model=model, objective=objective, train=(x.double(), y), valid=loader)


@pytest.mark.parametrize(
    "objective", [nn.CrossEntropyLoss(weight=WEIGHT.double()), "cross_entropy(weight=[1, 20, 0.1])"]
)
def test_weighted_classes_that_come_one_after_another_have_the_loss_of_all(objective: Any) -> None:
    given = problem(objective, X[BY_CLASS], Y[BY_CLASS])
    model = given.build()
    found = evaluate(given, model, given.valid_source, errors=True)
    with torch.no_grad():
        z = model(X.double())
    whole = functional.cross_entropy(z, Y, weight=WEIGHT.double())
    assert found.loss == pytest.approx(float(whole), rel=1e-9)
    each = functional.cross_entropy(z, Y, reduction="none")
    w = WEIGHT.double()[Y]
    linear = w * (each - whole) / w.mean()
    assert found.stderr == pytest.approx(float(linear.std()) / math.sqrt(len(Y)), rel=0.05)
    assert found.over == "examples"


def test_a_weighted_margin_is_a_mean_over_examples_as_torch_has_it() -> None:
    loss = nn.MultiMarginLoss(weight=WEIGHT.double())
    given = problem(loss, X[BY_CLASS], Y[BY_CLASS])
    model = given.build()
    with torch.no_grad():
        whole = float(loss(model(X.double()), Y))
    assert evaluate(given, model, given.valid_source).loss == pytest.approx(whole, rel=1e-9)


@pytest.mark.parametrize("objective", [nn.CrossEntropyLoss(), "cross_entropy", None])
def test_padding_that_is_not_spread_evenly_does_not_count(objective: Any) -> None:
    def own(output: Tensor, target: Tensor) -> Tensor:
        return functional.cross_entropy(output.flatten(0, 1), target.flatten())

    steps = torch.arange(8)
    lengths = (8 * torch.rand(300, generator=DRAW).square()).ceil().long().sort().values
    x = torch.randn(300, 8, 5, generator=DRAW)
    y = torch.where(steps < lengths[:, None], (x[..., 0] > 0).long(), -100)
    y[:64] = -100  # two whole parts
    given = problem(objective or own, x, y, outputs=2)
    if isinstance(objective, nn.Module):
        given = given.edit(
            model=lambda: nn.Sequential(
                nn.Linear(5, 2).double(), nn.Flatten(0, 1), nn.Unflatten(0, (-1, 8)), Turned()
            )
        )
    model = given.build()
    found = evaluate(given, model, given.valid_source, errors=True)
    with torch.no_grad():
        z = model(x.double())
    z = z if z.shape[1] == 2 else z.transpose(1, 2)
    assert found.loss == pytest.approx(float(functional.cross_entropy(z, y)), rel=1e-9)
    assert math.isfinite(found.stderr)


class Turned(nn.Module):
    """Classes on axis 1, as torch wants them."""

    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2)
