"""What is said of a watched run is true of its model, short where all is well, and one figure everywhere."""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import downslope as ds
from downslope.diagnosis.bare import no_layer
from downslope.diagnosis.diagnosis import Diagnosis
from downslope.reporting import console


class Raw(nn.Module):
    """A model whose weights are its own parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.v = nn.Parameter(0.3 * torch.randn(6, 16)), nn.Parameter(0.3 * torch.randn(16, 1))

    def forward(self, x: Tensor) -> Tensor:
        return (x @ self.w).tanh() @ self.v


def watched(model: nn.Module, lr: float = 0.05, steps: int = 120) -> Diagnosis:
    torch.manual_seed(0)
    x = torch.randn(256, 6)
    y = x[:, :1] - x[:, 1:2]
    rule = torch.optim.SGD(model.parameters(), lr)
    monitor = ds.watch(model, rule)
    for _ in range(steps):
        loss = functional.mse_loss(model(x), y)
        rule.zero_grad()
        loss.backward()
        rule.step()
        monitor.step(loss)
    return monitor.diagnose()


def test_a_model_of_bare_parameters_is_not_said_to_have_no_weights() -> None:
    found = watched(Raw())
    reasons = dict(found.not_checked)
    assert reasons["init-scale"] == reasons["symmetric-init"] == no_layer(found.run)
    assert "belong to Raw itself" in reasons["init-scale"]
    assert "no layer with a matrix" not in str(found.to_dict())


def test_what_a_healthy_watched_run_could_not_show_is_one_short_line_and_whole_in_json() -> None:
    found = watched(Raw())
    assert found.healthy, str(found)
    lines = [line for line in str(found).splitlines() if line.startswith("Open")]
    assert len(lines) == 1
    assert len(lines[0]) < 100
    assert str(len(found.not_checked)) in lines[0]
    rows = [row.text for row in console.of_diagnosis(found) if row.label == "open"]
    assert len(rows) == 1
    assert len(rows[0]) < 100
    assert len(json.loads(found.to_json())["not_checked"]) == len(found.not_checked)


def test_a_sick_watched_run_has_its_reasons_in_one_line_and_whole_beside_it() -> None:
    found = watched(nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 1)), lr=1e9)
    assert not found.healthy
    [line] = [line for line in str(found).splitlines() if line.startswith("Open")]
    assert line == f"Open: {len(found.not_checked)} not judged; .not_checked says why."
    assert all(reason for _, reason in found.not_checked)


def test_a_loss_that_left_the_numbers_is_no_figure() -> None:
    run = watched(Raw(), lr=1e9).run
    assert not math.isfinite(run.history.series("train_loss").values[-1])
    assert run.summary["train_loss"] is None


def test_the_run_and_its_verdict_tell_one_loss() -> None:
    found = watched(Raw())
    told = found.verdict.rpartition(", ")[2].split()[0]
    assert float(told) == pytest.approx(found.run.summary["train_loss"], rel=1e-3)
