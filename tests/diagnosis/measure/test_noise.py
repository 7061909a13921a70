"""The noise of a batch's gradient, against the gradients of single examples worked out by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import downslope as ds
from downslope.diagnosis.measure.noise import measure
from tests.diagnosis.measure.made import ended


def test_the_scale_is_the_trace_of_the_covariance_in_the_squared_mean() -> None:
    """Of (w x - y)^2 one example has the gradient 2 (w x - y) x."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(480, 4, generator=draw)
    y = x @ torch.tensor([[1.0], [-1.0], [0.5], [2.0]]) + torch.randn(480, 1, generator=draw)
    model = nn.Linear(4, 1, bias=False)
    nn.init.zeros_(model.weight)
    run = ended(model, (x, y), "mse", recipe=ds.Recipe(optimizer="sgd", lr=0.1, batch_size=40, steps=1))
    each = (-2 * y * x).double()
    mean = each.mean(0)
    trace = float((each - mean).square().sum() / 479)
    signal = float(mean.square().sum()) - trace / 480
    assert run.recipe is not None
    found = measure(run, run.the_problem(), run.recipe)
    assert found is not None
    assert found["batches"] == 12
    assert found["batch"] == 40
    assert found["scale"] == pytest.approx(trace / signal, rel=0.35)  # 12 batches: the trace has 11 x 4 draws
    assert found["ratio"] == pytest.approx(found["scale"] / 40)


def test_at_the_minimum_no_signal_is_left() -> None:
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(400, 3, generator=draw)
    y = x.sum(1, keepdim=True) + torch.randn(400, 1, generator=draw)
    model = nn.Linear(3, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.linalg.lstsq(x, y).solution.T)
    run = ended(model, (x, y), "mse", recipe=ds.Recipe(optimizer="sgd", lr=0.1, batch_size=8, steps=1))
    assert run.recipe is not None
    found = measure(run, run.the_problem(), run.recipe)
    assert found is not None
    assert found["scale"] is None or found["ratio"] > 5


def test_a_batch_that_is_the_data_is_cut_in_quarters() -> None:
    draw = torch.Generator().manual_seed(2)
    x = torch.randn(400, 3, generator=draw)
    run = ended(
        nn.Linear(3, 1), (x, x.sum(1, keepdim=True) + 5), "mse",
        recipe=ds.Recipe(optimizer="gd", lr=0.1, batch_size="full", steps=1),
    )  # fmt: skip
    assert run.recipe is not None
    found = measure(run, run.the_problem(), run.recipe)
    assert found is not None
    assert (found["batches"], found["batch"]) == (4, 400)
    assert found["ratio"] < 0.1


def test_fewer_than_four_batches_tell_nothing() -> None:
    run = ended(nn.Linear(2, 1), (torch.randn(3, 2), torch.randn(3, 1)), "mse")
    assert run.recipe is not None
    assert measure(run, run.the_problem(), run.recipe) is None


def test_the_limits_of_the_ratio_hold_the_truth_as_often_as_a_standard_error_does() -> None:
    """Of (w x - y)^2 at w = 0, over 60 draws of the data; the truth is that of the population."""
    inside = 0
    for seed in range(60):
        draw = torch.Generator().manual_seed(seed)
        x = torch.randn(480, 4, generator=draw)
        y = x.sum(1, keepdim=True) + torch.randn(480, 1, generator=draw)
        model = nn.Linear(4, 1, bias=False)
        nn.init.zeros_(model.weight)
        run = ended(model, (x, y), "mse", recipe=ds.Recipe(optimizer="sgd", lr=0.1, batch_size=40, steps=1))
        assert run.recipe is not None
        found = measure(run, run.the_problem(), run.recipe)
        assert found is not None
        # G = -2 (1, 1, 1, 1); E|2 y x|^2 = 4 E[y^2 |x|^2] = 4 (4 * 4 + 2 * 4 + 4), so the trace is 112 - 16.
        assert found["low"] < found["ratio"] < found["high"]
        inside += found["low"] <= 96 / 16 / 40 <= found["high"]
    assert inside >= 60 * 0.68
