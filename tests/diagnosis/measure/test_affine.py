"""Whether layers of weights make no more than one affine map."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import downslope as ds
from downslope.core.run import Run
from downslope.diagnosis.measure.affine import EXACT, measure

X = torch.randn(100, 6, generator=torch.Generator().manual_seed(0))
HOW = ds.Recipe(optimizer="sgd", lr=0.1, steps=1)


def bend(model: nn.Module, activation: str | None = None) -> float:
    problem = ds.Problem(model=lambda: model, objective="mse", train=(X, X[:, :3]))
    run = Run(problem=problem)
    run.facts["output"] = {"activation": activation}
    found = measure(run, problem, HOW)
    assert found is not None
    return float(found["bend"])


def net(*end: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3), *end)


@pytest.mark.parametrize(
    ("end", "name"),
    [
        (None, None),
        (nn.Softmax(1), "softmax"),
        (nn.LogSoftmax(1), "log_softmax"),
        (nn.Sigmoid(), "sigmoid"),
        (nn.LogSigmoid(), "log_sigmoid"),
    ],
)
def test_affine_maps_stay_affine_up_to_their_last_activation(end: nn.Module | None, name: str | None) -> None:
    assert bend(net() if end is None else net(end), name) < EXACT


def test_one_rectifier_bends() -> None:
    assert bend(nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))) > 0.01


def test_units_that_are_dead_could_bend() -> None:
    first = nn.Linear(6, 8)
    nn.init.constant_(first.bias, -1e3)
    assert bend(nn.Sequential(first, nn.ReLU(), nn.Linear(8, 3))) > 0.01


def test_dropout_is_no_bend() -> None:
    assert bend(nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.5), nn.Linear(8, 3))) < EXACT


def test_a_product_of_two_inputs_bends() -> None:
    class Product(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(6, 3), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.a(x) * self.b(x)

    assert bend(Product()) > 0.01
