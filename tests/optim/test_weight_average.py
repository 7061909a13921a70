"""Averages of the weights as links, beside the averages that a run keeps, and beside plain means."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from downslope import Recipe, optim
from downslope.optim import Custom, ScaleByLr, WeightEMA, WeightMean, chain
from downslope.testing import Case, RuleContract, gradients, parameters, run
from downslope.training.average import Average


def descent(p, grads):
    return np.array(p, dtype=np.float64) - 0.1 * sum(grads)


def averaged(average):
    return lambda params, backend: Custom(params, chain(ScaleByLr(lr=0.1), average), backend=backend)


def ema(x):
    p = x.p - x.lr * x.g
    n = x.t - 1
    d = min(x.average_decay, (1 + n) / (10 + n)) if n else 0
    return {"p": p, "a": d * x.a + (1 - d) * p}


def mean(x):
    p = x.p - x.lr * x.g
    return {"p": p, "a": x.a + (p - x.a) / x.t}


class TestWeightAverages(RuleContract):
    cases = (
        Case("ema", averaged(WeightEMA(average_decay=0.9)), descent, hand=(0.8, 0.9), paper=ema),
        Case(
            "mean",
            averaged(WeightMean()),
            descent,
            hand=(0.8, 0.9),
            paper=mean,
            equals={"the base": lambda params, backend: optim.SGD(params, lr=0.1, backend=backend)},
        ),
    )


def weights_of(count: int) -> tuple[list[np.ndarray], list[list[torch.Tensor]]]:
    """The first parameter after each step of descent, and the gradients."""
    given = gradients(torch.float64, count)
    p = parameters(torch.float64)[0].detach().numpy().copy()
    found: list[np.ndarray] = []
    for grads in given:
        p = p - 0.1 * grads[0].numpy()
        found.append(p)
    return found, given


@pytest.mark.parametrize("start", [0, 7])
def test_mean_is_that_of_the_weights_after_its_start(start: int) -> None:
    weights, given = weights_of(20)
    params = parameters(torch.float64)
    optimizer = averaged(WeightMean(average_start=start))(params, None)
    run(optimizer, given)
    assert np.allclose(optimizer.evaluated(params[0]), np.mean(weights[start:], axis=0), rtol=1e-13)


def test_before_its_start_an_average_is_the_present_weights() -> None:
    params = parameters(torch.float64)
    optimizer = averaged(WeightEMA(average_start=9))(params, None)
    run(optimizer, gradients(torch.float64, 5))
    assert torch.allclose(optimizer.evaluated(params[0]), params[0], rtol=1e-14)


@pytest.mark.parametrize(("kind", "link"), [("ema", WeightEMA(average_decay=0.97)), ("polyak", WeightMean())])
def test_links_keep_the_averages_of_a_run(kind: str, link: WeightEMA | WeightMean) -> None:
    model = nn.Linear(5, 3).double()
    decay = {"average_decay": 0.97} if kind == "ema" else {}
    average = Average(model, Recipe(average=kind, **decay), 60, 10)
    optimizer = averaged(link)(list(model.parameters()), None)
    draw = torch.Generator().manual_seed(0)
    for step in range(1, 61):
        for p in model.parameters():
            p.grad = torch.randn(p.shape, dtype=p.dtype, generator=draw)
        optimizer.step()
        average.follow(model, step)
    for ours, theirs in zip(model.parameters(), average.handed.parameters(), strict=True):
        assert torch.allclose(optimizer.evaluated(ours), theirs, rtol=1e-12)
