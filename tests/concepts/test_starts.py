"""Symmetry, the scale of a start, and starts that keep the variance: beside theory and hand calculation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import downslope as ds

EQUAL = ("zeros", "constant", {"name": "constant", "value": 0.3})


def digits(**arguments: Any) -> ds.Problem:
    data = ds.data.digits(scale=16)
    return ds.Problem(model="mlp", objective="cross_entropy", train=data.train, arguments=arguments)


def copies(width: int) -> nn.Module:
    """One random hidden unit in `width` equal copies, which share its outgoing weights."""
    generator = torch.Generator().manual_seed(1)
    unit, out = torch.randn(64, generator=generator) / 8, torch.randn(10, generator=generator)
    model = ds.models.mlp(64, 10, width=width, depth=1, activation="tanh")
    with torch.no_grad():
        model[1].weight.copy_(unit.expand(width, -1))
        model[3].weight.copy_((out / width).unsqueeze(1).expand(-1, width))
        model[1].bias.zero_()
        model[3].bias.zero_()
    return model


# -- 28: symmetry -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("init", EQUAL)
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
def test_equal_units_are_equal_to_the_last_bit_at_every_step(init: Any, optimizer: str) -> None:
    seen: list[bool] = []

    def look(model: nn.Module) -> None:
        for layer in ("1", "3"):
            weight, bias = model.get_submodule(layer).weight, model.get_submodule(layer).bias
            seen.append(bool((weight == weight[0]).all() and (bias == bias[0]).all()))

    problem = digits(depth=2, width=16, activation="tanh").edit(constraint=look)
    recipe = ds.Recipe(optimizer=optimizer, lr=0.01, steps=40, init=init)
    ds.fit(problem, recipe, folder=False, progress=False, observe=0)
    assert len(seen) >= 80
    assert all(seen)


def test_a_random_start_breaks_the_symmetry_and_keeps_it_broken() -> None:
    problem = digits(depth=1, width=16)
    run = ds.fit(problem, ds.Recipe(steps=40, init="auto"), folder=False, progress=False, observe=0)
    weight = run.model().get_submodule("1").weight.detach()
    apart = torch.cdist(weight, weight) + torch.eye(16)
    assert apart.min() > 0.1


def test_one_random_number_in_one_unit_is_enough_to_part_it_from_the_others() -> None:
    def nudged() -> nn.Module:
        model = copies(8)
        with torch.no_grad():
            model[1].weight[3, 20] += 1e-3
        return model

    problem = digits().edit(model=nudged)
    run = ds.fit(
        problem, ds.Recipe(optimizer="sgd", lr=0.5, steps=300), folder=False, progress=False, observe=0
    )
    weight = run.model().get_submodule("1").weight.detach()
    others = torch.cat([weight[:3], weight[4:]])
    assert (others == others[0]).all()
    assert (weight[3] - weight[0]).norm() > 0.01


def test_equal_units_are_worth_one_unit_whose_steps_are_those_of_all() -> None:
    """N copies: the sum of their outgoing weights moves N times as far, each one's incoming 1/N as far."""
    n, lr = 16, 0.1
    recipe = ds.Recipe(optimizer="gd", lr=lr, steps=60, precision="float64")
    one = [{"params": "3.weight", "lr": lr * n}, {"params": ["1.weight", "1.bias"], "lr": lr / n}]
    wide, single = (
        ds.fit(digits().edit(model=copies, arguments={"width": w}), how, folder=False, progress=False)
        for w, how in ((n, recipe), (1, recipe.edit(groups=one)))
    )
    np.testing.assert_allclose(
        wide.history.series("train_loss").values, single.history.series("train_loss").values, rtol=1e-6
    )
    assert wide.summary["train_loss"] == pytest.approx(single.summary["train_loss"], rel=1e-6)


def test_biases_may_start_equal() -> None:
    model = digits(depth=2).build(0, "auto")
    assert all(model.get_submodule(layer).bias.abs().max() == 0 for layer in ("1", "3", "5"))


# -- 29: the scale of a start -----------------------------------------------------------------------------


def spreads(init: Any, *, activation: str, norm: str | None = None) -> list[float]:
    problem = digits(depth=8, width=128, activation=activation, norm=norm)
    return [each.output.rms for each in ds.init.measure(problem, init=init).layers[1:-1]]


@pytest.mark.parametrize(("std", "activation"), [(0.01, "tanh"), (0.01, "relu"), (0.3, "relu")])
def test_the_signal_shrinks_or_grows_by_the_factor_of_the_theory(std: float, activation: str) -> None:
    """Var(z_k) = n std² E[a²]: a factor std sqrt(n) for tanh near 0, std sqrt(n/2) for ReLU."""
    found = spreads({"name": "normal", "std": std}, activation=activation)
    factor = std * math.sqrt(128 / (2 if activation == "relu" else 1))
    measured = (found[-1] / found[0]) ** (1 / (len(found) - 1))
    assert measured == pytest.approx(factor, rel=0.12)


def test_a_large_start_saturates_tanh_and_its_gradient_dies_on_the_way_back() -> None:
    problem = digits(depth=8, width=128, activation="tanh")
    layers = ds.init.measure(problem, init={"name": "normal", "std": 1.0}).layers[:-1]
    assert min(each.after.saturated for each in layers) > 0.5
    small = ds.init.measure(problem, init={"name": "normal", "std": 0.01}).layers[:-1]
    assert max(each.after.saturated for each in small) == 0
    assert small[0].gradient.rms < 1e-5 * small[-1].gradient.rms


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_batch_norm_brings_every_layer_back_to_one_scale(activation: str) -> None:
    problem = digits(depth=8, width=128, activation=activation, norm="batch")
    found = [
        [each.after.std for each in ds.init.measure(problem, init=init).layers[:-1]]
        for init in ({"name": "normal", "std": 0.01}, "he", {"name": "normal", "std": 1.0})
    ]
    # tanh and ReLU of a standard normal, by quadrature in float64.
    z, w = np.polynomial.hermite_e.hermegauss(201)
    bent = np.tanh(z) if activation == "tanh" else np.maximum(z, 0)
    mean = (w * bent).sum() / w.sum()
    wanted = math.sqrt((w * (bent - mean) ** 2).sum() / w.sum())
    np.testing.assert_allclose(found, wanted, rtol=0.12)


# -- 30: starts that keep the variance --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("init", "activation", "factor"),
    [("he", "relu", 1.0), ("lecun", "relu", 0.5), ("xavier", "relu", 0.5), ("lecun", "linear", 1.0),
     ("he", "linear", 2.0), ("he_uniform", "relu", 1.0), ("lecun_uniform", "linear", 1.0),
     ("orthogonal", "linear", 1.0)],
)  # fmt: skip
def test_one_layer_changes_the_second_moment_by_the_factor_of_the_theory(
    init: str, activation: str, factor: float
) -> None:
    """Monte Carlo in float64: E[z²] / E[x²] over 300 draws, within five standard errors of the theory."""
    generator, ratios = torch.Generator().manual_seed(0), []
    x = torch.randn(64, 200, generator=generator, dtype=torch.float64)
    bent = x.relu() if activation == "relu" else x
    weight = torch.empty(200, 200, dtype=torch.float64)
    for _ in range(300):
        ds.init.initialise(layer := nn.Linear(200, 200, bias=False, dtype=torch.float64), init, generator)
        weight = layer.weight.detach()
        ratios.append(((bent @ weight.T).square().mean() / x.square().mean()).item())
    given = (bent.square().mean() / x.square().mean()).item() * (2 if activation == "relu" else 1)
    error = np.std(ratios) / math.sqrt(len(ratios))
    assert np.mean(ratios) == pytest.approx(factor * given, abs=5 * error + 1e-12)
    assert error < 0.01


def test_over_fifty_layers_he_keeps_the_signal_and_xavier_halves_its_variance_each_time() -> None:
    """Mean of the log over ten draws: a single draw wanders, as its log is a random walk over the layers."""
    slopes = {}
    for init in ("he", "lecun"):
        problem = digits(depth=50, width=256)
        each = []
        for seed in range(4):
            layers = ds.init.measure(problem, init=init, seed=seed, examples=64).layers[1:-1]
            logs = np.log2([layer.output.rms**2 for layer in layers])
            each.append(np.polyfit(range(len(logs)), logs, 1)[0])
        slopes[init] = np.mean(each)
    assert slopes["he"] == pytest.approx(0, abs=0.1)
    assert slopes["lecun"] - slopes["he"] == pytest.approx(-1, abs=1e-3)  # the same draws, scaled


def test_gradients_keep_their_size_too() -> None:
    layers = ds.init.measure(digits(depth=50, width=256), init="he", examples=256).layers[1:-1]
    assert 0.2 < layers[0].gradient.rms / layers[-1].gradient.rms < 5


def test_the_two_forms_of_xavier_agree_for_square_weights_only() -> None:
    square, flat = torch.empty(400, 400), torch.empty(400, 100)
    found = {}
    for rule in (ds.init.lecun, ds.init.xavier):
        found[rule.__name__] = []
        for weight in (square, flat):
            rule(weight, torch.Generator().manual_seed(0))
            found[rule.__name__].append(weight.var().item())
    assert found["lecun"][0] == pytest.approx(found["xavier"][0], rel=1e-5)
    assert found["lecun"][1] / found["xavier"][1] == pytest.approx(2.5, rel=1e-4)  # (1/100) / (2/500)
