"""Training mode beside eval mode, on the same examples."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import downslope as ds
from downslope.diagnosis.measure.modes import measure
from tests.diagnosis.measure.made import ended

HOW = ds.Recipe(optimizer="sgd", lr=0.1, batch_size=32, steps=1)
X = torch.randn(128, 4, generator=torch.Generator().manual_seed(0)) * 3 + 2
Y = X.sum(1, keepdim=True)


def test_batch_norm_is_scored_by_the_batch_and_by_its_running_statistics() -> None:
    torch.manual_seed(0)
    norm, head = nn.BatchNorm1d(4), nn.Linear(4, 1)
    run = ended(nn.Sequential(norm, head), (X, Y), "mse")
    found = measure(run, run.the_problem(), HOW)
    losses = {"train": [], "eval": []}  # type: ignore[var-annotated]
    for start in range(0, 128, 32):
        x, y = X[start : start + 32], Y[start : start + 32]
        own = (x - x.mean(0)) / (x.var(0, unbiased=False) + norm.eps).sqrt()
        losses["train"].append(float((head(own) - y).square().mean().detach()))
        losses["eval"].append(float((head(x / (1 + norm.eps) ** 0.5) - y).square().mean().detach()))
    for mode, values in losses.items():
        assert found[mode] == pytest.approx(sum(values) / 4, rel=1e-4)
    assert found["norms"] == ["0"]
    assert found["drawn"] == 0


def test_the_run_keeps_its_statistics_and_its_mode() -> None:
    run = ended(nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 1)), (X, Y), "mse")
    before = {name: value.clone() for name, value in run.state("last").items()}
    measure(run, run.the_problem(), HOW)
    assert all(torch.equal(value, before[name]) for name, value in run.state("last").items())


def test_dropout_in_eval_mode_is_seen_as_two_answers() -> None:
    class Always(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(functional.dropout(x, 0.5))

    run = ended(Always(), (X, Y), "mse")
    assert measure(run, run.the_problem(), HOW)["drawn"] > 0.3
    proper = ended(nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 1)), (X, Y), "mse")
    found = measure(proper, proper.the_problem(), HOW)
    assert found["drawn"] == 0
    assert found["dropouts"] == [("0", 0.5)]


def test_a_maximised_objective_is_given_in_its_own_sign() -> None:
    def closeness(output: Tensor, target: Tensor) -> Tensor:
        return -(output - target).square().mean()

    run = ended(nn.Linear(4, 1), (X, Y), closeness, maximize=True)
    found = measure(run, run.the_problem(), HOW)
    assert found["train"] == pytest.approx(found["eval"])
    assert found["train"] < 0
