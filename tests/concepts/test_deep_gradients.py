"""Vanishing and exploding gradients, clipping, long lags: beside products worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import downslope as ds

# -- 25: the vanishing gradient ---------------------------------------------------------------------------


def test_tanh_at_4_and_sigmoid_in_its_middle_have_the_slopes_of_their_closed_forms() -> None:
    """tanh' = 1 / cosh^2, sigmoid' = e^z / (1 + e^z)^2, which is largest at 0."""
    z = torch.linspace(-8, 8, 1601, dtype=torch.float64, requires_grad=True)
    (tanh,) = torch.autograd.grad(torch.tanh(z).sum(), z)
    (sigmoid,) = torch.autograd.grad(torch.sigmoid(z).sum(), z)
    np.testing.assert_allclose(tanh.numpy(), 1 / np.cosh(z.detach().numpy()) ** 2, rtol=1e-9)
    assert 1 / math.cosh(4) ** 2 == pytest.approx(0.0013, abs=5e-5)
    assert float(tanh[z.detach() >= 4].max()) < 0.0014
    assert float(sigmoid.max()) == pytest.approx(0.25, abs=1e-15)
    assert int(sigmoid.argmax()) == 800
    assert 0.25**10 < 1e-6


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "relu"])
def test_the_gradient_of_the_first_layer_is_the_product_of_the_formula(activation: str) -> None:
    """dJ/dz_1 = (W_2 diag(phi'(z_1)))^T ... dJ/dz_L, multiplied out in NumPy; it is what is measured."""
    x, y = torch.randn(6, 3, dtype=torch.float64), torch.randn(6, 2, dtype=torch.float64)
    problem = ds.Problem(
        model="mlp", objective="squared_error", train=(x, y),
        arguments={"depth": 5, "width": 4, "activation": activation},
    )  # fmt: skip
    model = problem.build(0, "he").double()
    layers = [each for each in model if isinstance(each, nn.Linear)]
    slopes = {
        "sigmoid": lambda z: np.exp(-z) / (1 + np.exp(-z)) ** 2,
        "tanh": lambda z: 1 - np.tanh(z) ** 2,
        "relu": lambda z: (z > 0).astype(float),
    }
    bend = {"sigmoid": lambda z: 1 / (1 + np.exp(-z)), "tanh": np.tanh, "relu": lambda z: np.maximum(z, 0)}
    a, zs = x.numpy(), []
    for layer in layers:
        zs.append(a @ layer.weight.detach().numpy().T + layer.bias.detach().numpy())
        a = bend[activation](zs[-1])
    delta = 2 * (zs[-1] - y.numpy()) / y.numel()
    for layer, z in zip(reversed(layers[1:]), reversed(zs[:-1]), strict=True):
        delta = delta @ layer.weight.detach().numpy() * slopes[activation](z)
    problem.objective(model(x), y).backward()
    np.testing.assert_allclose(layers[0].weight.grad.numpy(), delta.T @ x.numpy(), rtol=1e-9, atol=1e-16)
    measured = ds.init.measure(model, (x, y), objective=problem.objective).layers[0]
    assert measured.gradient is not None
    assert measured.gradient.rms == pytest.approx(np.sqrt((delta**2).mean()), rel=1e-5)


@pytest.mark.parametrize("depth", [1, 4, 10])
def test_a_chain_of_sigmoids_passes_at_most_a_quarter_a_link(depth: int) -> None:
    z = torch.linspace(-6, 6, 201, dtype=torch.float64, requires_grad=True)
    a = z
    for _ in range(depth):
        a = torch.sigmoid(a)
    (slope,) = torch.autograd.grad(a.sum(), z)
    assert float(slope.max()) <= 0.25**depth
    # ReLU passes all of it where it is active.
    a = z
    for _ in range(depth):
        a = torch.relu(a)
    (slope,) = torch.autograd.grad(a.sum(), z)
    assert slope[z > 0].eq(1).all()


def test_every_remedy_gives_the_first_layer_its_gradient_back() -> None:
    digits = ds.data.digits(scale=16)
    deep = ds.Problem(
        model="mlp", objective="cross_entropy", train=digits.train,
        arguments={"depth": 8, "width": 16, "activation": "sigmoid"},
    )  # fmt: skip

    def share(problem: ds.Problem, init: Any) -> float:
        layers = [
            each for each in ds.init.measure(problem, init=init, examples=128).layers if "Linear" in each.kind
        ]
        return layers[0].weight_gradient.rms / layers[-1].weight_gradient.rms  # type: ignore[union-attr]

    assert share(deep, "auto") < 0.25**7
    for changed, init in (
        (deep.edit(**{"model.activation": "relu"}), "he"),
        (deep.edit(**{"model.activation": "tanh"}), "xavier"),
        (deep.edit(**{"model.norm": "batch"}), "auto"),
    ):
        assert share(changed, init) > 0.05


# -- 26: cliffs and clipping ------------------------------------------------------------------------------


class Power(nn.Module):
    """``h <- w h``, thirty times."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(1.1, dtype=torch.float64))

    def forward(self, h: Tensor) -> Tensor:
        for _ in range(30):
            h = self.w * h
        return h


ONE = torch.ones(1, 1, dtype=torch.float64)
WALL = ds.Problem(model=Power, objective="squared_error", train=(ONE, 0.5 * ONE))


def stepped(problem: ds.Problem, **settings: Any) -> Tensor:
    """What one step of `fit` at rate 1 takes off the weights, flat."""
    recipe = ds.Recipe(optimizer="gd", lr=1.0, steps=1, precision="float64", **settings)
    run = ds.fit(problem, recipe, folder=False, progress=False, observe=0)
    before, after = problem.build(0).double(), run.model("last").double()
    pairs = zip(before.parameters(), after.parameters(), strict=True)
    return torch.cat([(b - a).detach().flatten() for b, a in pairs])


def test_the_gradient_at_the_wall_is_that_of_the_power() -> None:
    """d(w^30 - 1/2)^2/dw = 2 (w^30 - 1/2) 30 w^29, and central differences agree; one step is thrown away."""
    w = 1.1
    exact = 2 * (w**30 - 0.5) * 30 * w**29
    e = 1e-6
    assert exact == pytest.approx(
        (((w + e) ** 30 - 0.5) ** 2 - ((w - e) ** 30 - 0.5) ** 2) / (2 * e), rel=1e-6
    )
    assert float(stepped(WALL)) == pytest.approx(exact, rel=1e-12)
    assert exact > 16_000
    recipe = ds.Recipe(optimizer="gd", lr=0.003, steps=60)
    assert ds.fit(WALL, recipe, folder=False, progress=False).status == "diverged"
    run = ds.fit(WALL, recipe.edit(clip_norm=1.0), folder=False, progress=False)
    assert run.model("last").get_parameter("w").item() == pytest.approx(0.5 ** (1 / 30), abs=1e-6)


def network() -> ds.Problem:
    x, y = ds.data.digits(scale=16).train
    return ds.Problem(
        model="mlp", objective="cross_entropy", train=(x[:100].double(), y[:100]),
        arguments={"depth": 2, "width": 8},
    )  # fmt: skip


def test_clipping_by_norm_keeps_the_direction_and_bounds_the_length() -> None:
    gradient = stepped(network())
    size = float(gradient.norm())
    clipped = stepped(network(), clip_norm=size / 10)
    torch.testing.assert_close(clipped, gradient / 10, rtol=1e-5, atol=1e-12)  # torch adds 1e-6 to the norm
    torch.testing.assert_close(stepped(network(), clip_norm=2 * size), gradient, rtol=1e-12, atol=0.0)


def test_clipping_by_value_cuts_each_entry_and_turns_the_step() -> None:
    gradient = stepped(network())
    c = float(gradient.abs().quantile(0.8))
    clipped = stepped(network(), clip_value=c)
    wanted = np.minimum(np.maximum(gradient.numpy(), -c), c)
    np.testing.assert_allclose(clipped.numpy(), wanted, rtol=1e-9, atol=1e-15)
    cosine = float(gradient @ torch.from_numpy(wanted) / gradient.norm() / np.linalg.norm(wanted))
    assert cosine < 0.95


# -- 27: long-term dependencies ---------------------------------------------------------------------------


class Linear(nn.Module):
    """``h_t = W h_{t-1} + x_t``, W with the eigenvalues 1.05, 0.9, 0.5 and one pair of eigenvectors askew."""

    def __init__(self) -> None:
        super().__init__()
        self.step = nn.Linear(3, 3, bias=False).double()
        v = torch.tensor([[1.0, 0.5, 0.2], [0.1, 1.0, 0.3], [0.0, 0.4, 1.0]], dtype=torch.float64)
        with torch.no_grad():
            scaled = v @ torch.diag(torch.tensor([1.05, 0.9, 0.5], dtype=torch.float64))
            self.step.weight.copy_(scaled @ torch.linalg.inv(v))

    def forward(self, x: Tensor) -> Tensor:
        h = x[:, 0]
        for each in x.unbind(1)[1:]:
            h = self.step(h) + each
        return h.sum(1, keepdim=True)


def test_repeated_multiplication_keeps_the_main_eigenvector() -> None:
    """By power iteration in NumPy; singular values by lag against those of W^lag."""
    weight = Linear().step.weight.detach().numpy()
    x = torch.randn(5, 60, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    problem = ds.Problem(model=Linear, objective="squared_error", train=(x, x[:, 0, :1]))
    found = ds.lags(problem, Linear(), sequences=2)
    for lag in (1, 10, 58):
        wanted = np.linalg.svd(np.linalg.matrix_power(weight, lag), compute_uv=False)
        np.testing.assert_allclose(found.singular_values[0, lag].numpy(), wanted, rtol=1e-8, atol=1e-12)
    vector = np.array([1.0, -2.0, 0.5])
    for _ in range(200):
        vector = weight @ vector
        vector /= np.linalg.norm(vector)
    assert float(vector @ weight @ vector) == pytest.approx(1.05, rel=1e-6)  # the spectral radius
    assert abs(vector @ np.array([1.0, 0.1, 0.0])) == pytest.approx(math.hypot(1.0, 0.1), rel=1e-6)
    assert float(found.directions[58]) == pytest.approx(1.0, abs=1e-3)
    assert float(found.largest[58] / found.largest[57]) == pytest.approx(1.05, rel=1e-3)


def test_the_spectral_radius_is_measured_and_says_how_far_back_a_network_reaches() -> None:
    data = ds.data.adding(n=60, steps=40).train
    problem = ds.Problem(model="rnn", objective="squared_error", train=data, arguments={"width": 12})

    def reach(factor: float) -> int:
        model = problem.build(0)
        weight = model.get_parameter("cell.weight_hh_l0")
        with torch.no_grad():
            weight.mul_(factor / torch.linalg.eigvals(weight).abs().max())
        found = ds.lags(problem, model, sequences=4)
        assert found.radius["weight_hh_l0"] == pytest.approx(factor, rel=1e-5)
        return found.reach()

    assert reach(0.4) < reach(0.8) < reach(1.0)


def test_open_forget_gates_hand_the_past_on_and_half_open_ones_forget_it() -> None:
    """Of an LSTM without inputs and weights the cell is multiplied by sigmoid(b_f) a step."""
    problem = ds.Problem(
        model="lstm", objective="squared_error", train=(torch.zeros(8, 30, 1), torch.zeros(8)),
        arguments={"width": 3},
    )  # fmt: skip
    for bias in (0.0, 4.0):
        model = problem.build(0)
        with torch.no_grad():
            for name, p in model.named_parameters():
                p.zero_()
                if name == "cell.bias_hh_l0":
                    p[3:6] = bias  # input, forget, cell, output, three each
        found = ds.lags(problem, model, sequences=1)
        # The state is (h, c); h = o tanh(c) is half of it, and hands nothing on where all weights are 0.
        forget = 1 / (1 + math.exp(-bias))
        wanted = forget**20 * math.hypot(1.0, 0.5)
        assert float(found.largest[20]) == pytest.approx(wanted, rel=1e-5)
