"""Batch normalisation against a computation by hand in float64; what it does to start, rate and noise."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import downslope as ds

EPS, MOMENTUM = 1e-5, 0.1


def by_hand(z: Any, gain: Any, bias: Any, up: Any) -> tuple[Any, ...]:
    """Output and gradients: Ioffe and Szegedy 2015, section 3, with `up` the gradient of the loss by y."""
    n = len(z)
    mean, var = z.mean(0), z.var(0)
    unit = (z - mean) / np.sqrt(var + EPS)
    d_unit = up * gain
    d_var = (d_unit * (z - mean) * -0.5 * (var + EPS) ** -1.5).sum(0)
    d_mean = (-d_unit / np.sqrt(var + EPS)).sum(0) + d_var * (-2 * (z - mean)).mean(0)
    d_z = d_unit / np.sqrt(var + EPS) + d_var * 2 * (z - mean) / n + d_mean / n
    return gain * unit + bias, d_z, (up * unit).sum(0), up.sum(0)


def test_output_gradients_and_running_statistics_are_those_computed_by_hand() -> None:
    rng = np.random.default_rng(0)
    model = ds.models.mlp(5, 2, width=7, depth=1, norm="batch").double().train()
    norm = next(each for each in model if isinstance(each, nn.BatchNorm1d))
    mean, var = np.zeros(7), np.ones(7)
    for _ in range(4):
        z, up = rng.normal(2.0, 3.0, (12, 7)), rng.normal(size=(12, 7))
        gain, bias = rng.normal(size=7), rng.normal(size=7)
        with torch.no_grad():
            norm.weight.copy_(torch.from_numpy(gain))
            norm.bias.copy_(torch.from_numpy(bias))
        x = torch.from_numpy(z).requires_grad_()
        y = norm(x)
        norm.zero_grad()
        y.backward(torch.from_numpy(up))
        expected = by_hand(z, gain, bias, up)
        for found, wanted in zip(
            (y.detach(), x.grad, norm.weight.grad, norm.bias.grad), expected, strict=True
        ):
            np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-11)
        mean = (1 - MOMENTUM) * mean + MOMENTUM * z.mean(0)
        var = (1 - MOMENTUM) * var + MOMENTUM * z.var(0, ddof=1)
    np.testing.assert_allclose(norm.running_mean, mean, rtol=1e-12)
    np.testing.assert_allclose(norm.running_var, var, rtol=1e-12)
    one = torch.from_numpy(z[:1])
    said = gain * (z[:1] - mean) / np.sqrt(var + EPS) + bias
    np.testing.assert_allclose(norm.eval()(one).detach(), said, rtol=1e-9)  # whatever else is in the batch


def test_a_run_trains_on_the_batchs_statistics_and_is_judged_by_the_running_ones() -> None:
    """Their recurrence over the steps of a real run, from what entered the norm in train mode."""
    entered: list[Tensor] = []

    def make() -> nn.Module:
        model = ds.models.mlp(64, 10, width=16, depth=1, norm="batch")
        norm = next(each for each in model if isinstance(each, nn.BatchNorm1d))
        norm.register_forward_pre_hook(
            lambda module, z: entered.append(z[0].detach()) if module.training else None
        )
        return model

    digits = ds.data.digits(scale=16)
    problem = ds.Problem(model=make, objective="cross_entropy", train=digits.train, metric="accuracy")
    recipe = ds.Recipe(optimizer="sgd", lr=0.1, batch_size=48, steps=40)
    model = ds.fit(problem, recipe, folder=False, progress=False, observe=0).model("last")
    steps = entered[-40:]  # the ones before are a look at the first batch
    mean, var = np.zeros(16), np.ones(16)
    for z in steps:
        mean = (1 - MOMENTUM) * mean + MOMENTUM * z.double().numpy().mean(0)
        var = (1 - MOMENTUM) * var + MOMENTUM * z.double().numpy().var(0, ddof=1)
    norm = next(each for each in model if isinstance(each, nn.BatchNorm1d))
    np.testing.assert_allclose(norm.running_mean, mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(norm.running_var, var, rtol=1e-4)


@pytest.mark.parametrize("scale", [0.1, 10.0])
def test_the_scale_of_the_weights_before_it_changes_no_output_and_divides_the_gradient(scale: float) -> None:
    """BN(a W x) = BN(W x), so the gradient by a W is 1/a of that by W: a large start takes small steps."""
    torch.manual_seed(0)
    x, up = torch.randn(64, 6, dtype=torch.float64), torch.randn(64, 4, dtype=torch.float64)
    norm = nn.BatchNorm1d(4, eps=1e-16).double()
    w = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
    scaled = (scale * w.detach()).requires_grad_()
    plain, other = norm(x @ w.T), norm(x @ scaled.T)
    np.testing.assert_allclose(plain.detach(), other.detach(), atol=1e-12)
    plain.backward(up)
    other.backward(up)
    np.testing.assert_allclose(scaled.grad, w.grad / scale, rtol=1e-9, atol=1e-12)


def scaled_mlp(scale: float = 1.0, norm: Any = None) -> nn.Module:
    """Six hidden layers whose weights start at `scale` times He's."""
    model = ds.models.mlp(64, 10, width=32, depth=6, norm=norm)
    for module in model:
        if isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight)
            module.weight.data *= scale
            nn.init.zeros_(module.bias)
    return model


def test_with_it_more_starts_and_rates_lead_to_learning() -> None:
    """Sixteen real runs each: a training loss below 1 after 100 steps, where a constant guess has 2.3."""
    digits = ds.data.digits(scale=16, valid=0.5)
    problem = ds.Problem(model=scaled_mlp, objective="cross_entropy", train=digits.train)
    learnt = {None: 0, "batch": 0}
    for norm in learnt:
        for scale in (0.1, 0.4, 1.0, 2.5):
            for lr in (0.03, 0.1, 0.3, 1.0):
                own = problem.edit(**{"model.scale": scale, "model.norm": norm})
                recipe = ds.Recipe(optimizer="sgd", lr=lr, batch_size=64, steps=100)
                run = ds.fit(own, recipe, folder=False, progress=False, observe=0)
                learnt[norm] += run.status == "done" and run.summary["train_loss"] < 1.0
    assert learnt[None] <= 5, learnt
    assert learnt["batch"] >= 13, learnt


def test_the_batchs_statistics_are_a_noise_that_falls_with_the_batch_and_ends_in_evaluation() -> None:
    """Mean over b of n: Var = sigma^2 / b, to which the normalised value of one fixed example answers."""
    torch.manual_seed(0)
    norm = nn.BatchNorm1d(1, affine=False)
    spread: list[float] = []
    for size in (32, 128, 512):
        others = torch.randn(1500, size, 1)
        others[:, 0] = 0.0  # at the mean: what is left is the mean's own noise
        spread.append(float(torch.stack([norm(batch)[0] for batch in others]).std()))
    np.testing.assert_allclose(spread, [1 / math.sqrt(size) for size in (32, 128, 512)], rtol=0.08)
    norm.eval()
    assert float(torch.stack([norm(batch)[0] for batch in others[:50]]).std()) == 0.0
