"""Concept 38: Gauss-Newton is the Fisher matrix; what Shampoo and Muon make of a gradient, by hand."""

from __future__ import annotations

import numpy as np
import scipy.linalg
import torch
from torch import nn

import downslope as ds
from downslope.optim.muon import orthogonal


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def test_gauss_newton_is_the_fisher_matrix_of_a_softmax_and_the_natural_gradient_solves_by_it() -> None:
    """Dense matrices of a linear layer: J' H J, and E[score score'] over all labels."""
    draw = np.random.default_rng(0)
    x, weight = draw.normal(size=(6, 3)), draw.normal(size=(4, 3))
    prediction = softmax(x @ weight.T)
    jacobian = [np.kron(np.eye(4), row) for row in x]
    hessian = [np.diag(p) - np.outer(p, p) for p in prediction]
    gauss_newton = sum(j.T @ h @ j for j, h in zip(jacobian, hessian, strict=True)) / 6
    scores = [[np.kron(np.eye(4)[label] - p, row) for label in range(4)]
              for p, row in zip(prediction, x, strict=True)]  # fmt: skip
    fisher = (
        sum(p[k] * np.outer(s[k], s[k]) for p, s in zip(prediction, scores, strict=True) for k in range(4))
        / 6
    )
    np.testing.assert_allclose(gauss_newton, fisher, atol=1e-12)

    # One step of the recipe: -(F + aI)^-1 g, as far as `lr` goes.
    labels = torch.tensor([0, 1, 2, 3, 0, 1])
    layer = nn.Linear(3, 4, bias=False).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weight))
    optimizer = ds.methods.NaturalGradient(layer.parameters(), lr=1.0, damping=1e-3, kl=float("inf"))
    inputs = torch.tensor(x)
    ground = ds.methods.ground(layer, nn.functional.cross_entropy, (inputs, labels))
    optimizer.step(ground)
    g = ((prediction - np.eye(4)[labels]).T @ x / 6).ravel()
    wanted = weight.ravel() - np.linalg.solve(fisher + 1e-3 * np.eye(12), g)
    np.testing.assert_allclose(layer.weight.detach().numpy().ravel(), wanted, rtol=1e-6)


def test_a_step_of_shampoo_without_memory_is_the_orthogonal_matrix_that_muon_goes_to() -> None:
    """L^-1/4 g R^-1/4 with L = gg', R = g'g is U V': the singular values leave, the vectors stay."""
    g = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weight = nn.Parameter(torch.zeros(5, 3, dtype=torch.float64))
    optimizer = ds.optim.Shampoo([weight], lr=1.0, betas=(0.0, 1.0), epsilon=0.0)
    weight.grad = g.clone()
    optimizer.step()
    polar = scipy.linalg.polar(g.numpy())[0]
    np.testing.assert_allclose(-weight.detach().numpy(), polar, atol=1e-7)
    # Muon's five steps come near it; a cubic that converges comes to it.
    assert np.abs(np.linalg.svd(orthogonal(g, dtype=torch.float64))[1] - 1).max() < 0.35
    cubic = orthogonal(g, steps=40, coefficients=(1.5, -0.5, 0.0), dtype=torch.float64)
    np.testing.assert_allclose(cubic.numpy(), polar, atol=1e-12)


def test_the_steps_of_muon_and_shampoo_turn_with_the_axes_and_those_of_adam_do_not() -> None:
    draw = torch.Generator().manual_seed(1)
    given = [torch.randn(4, 4, generator=draw, dtype=torch.float64) for _ in range(3)]
    left = torch.linalg.qr(torch.randn(4, 4, generator=draw, dtype=torch.float64))[0]

    def way(make, turn: torch.Tensor) -> torch.Tensor:
        weight = nn.Parameter(torch.zeros(4, 4, dtype=torch.float64))
        optimizer = make([weight])
        for g in given:
            weight.grad = turn @ g
            optimizer.step()
        return turn.T @ weight.detach()

    makes = {
        "muon": lambda p: ds.optim.Muon(p, ns_precision="float64"),
        "shampoo": lambda p: ds.optim.Shampoo(p, epsilon=1e-6),
        "adam": ds.optim.Adam,
    }
    eye = torch.eye(4, dtype=torch.float64)
    turned = {name: (way(make, left) - way(make, eye)).norm() / way(make, eye).norm()
              for name, make in makes.items()}  # fmt: skip
    assert turned["muon"] < 1e-9
    assert turned["shampoo"] < 1e-9
    assert turned["adam"] > 0.1


def test_all_of_them_need_fewer_steps_than_adam() -> None:
    digits = ds.data.digits(scale=16)
    problem = ds.Problem(model="mlp", objective="cross_entropy", train=digits.train,
                         arguments={"depth": 3, "activation": "tanh"})  # fmt: skip
    losses: dict[str, float] = {}
    for name, settings in (
        ("adam", {"lr": 0.01}),
        ("muon", {"lr": 0.05}),
        ("soap", {"lr": 0.03}),
        ("shampoo", {"lr": 0.03, "grafting": "adam"}),
        ("kfac", {}),
    ):
        recipe = ds.Recipe(optimizer=name, batch_size=256, steps=60, **settings)
        losses[name] = ds.fit(problem, recipe, folder=False, progress=False).summary["train_loss"]
    adam = losses.pop("adam")
    assert max(losses.values()) < adam / 2, losses
