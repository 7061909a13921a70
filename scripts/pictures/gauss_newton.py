"""Picture of chapter 18: a Fisher block and its Kronecker product, and steps to a training loss."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import downslope as ds
from downslope.core.loss import Objective
from downslope.terrain.ground.prediction import Prediction
from downslope.terrain.kronecker import Taps, factors_of, layers_of, rows_of
from scripts.pictures.style import BLUE, GREEN, ORANGE, RED, panels, save


def gauss_newton() -> Path:
    """The block of one layer, exact and as a product; SGD with momentum, Adam, K-FAC and Hessian-free."""
    figure, axes = panels(3, height=3.7, width=10.4, gridspec_kw={"width_ratios": [1, 1, 1.5]})
    _blocks(axes[0], axes[1])
    _steps(axes[2])
    return save(figure, "gauss-newton")


def _blocks(left: Any, right: Any) -> None:
    digits = ds.data.digits(scale=16)
    x, y = digits.train[0][:300].double(), digits.train[1][:300]
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 7), nn.Tanh(), nn.Linear(7, 6), nn.Tanh(), nn.Linear(6, 10)).double()
    problem = ds.Problem(model=lambda: model, objective="cross_entropy", train=(x, y))
    recipe = ds.Recipe(optimizer="kfac", steps=8, precision="float64")
    fitted = ds.fit(problem, recipe, folder=False, progress=False)
    model = fitted.model("last")
    objective, layers = Objective(problem), layers_of(model)
    with Taps(layers) as taps:
        loss = objective(model, (x, y))
    exact, G = torch.zeros(0), torch.zeros(0)
    for directions in Prediction(loss, objective).exact():
        rows = list(rows_of(layers[1], taps.calls[1], taps.slopes(*directions)[1]))
        each = torch.cat([torch.einsum("no,ni->noi", r.g[0, :, 0], r.a[0, :, 0]).flatten(1) for r in rows])
        exact = each.T @ each + (exact if exact.numel() else 0.0)
        found = factors_of(rows)
        G = found.G[0] + (G if G.numel() else 0.0)
    product = torch.kron(G, found.A[0])
    gap = float((exact - product).norm() / exact.norm())
    for axis, matrix, title in (
        (left, exact, "Fisher block of a layer"),
        (right, product, f"A ⊗ G, off by {gap:.0%}"),
    ):
        _drawn(axis, matrix, float(exact.abs().max()))
        axis.set(title=title, xlabel="weights into each of 6 units")


def _drawn(axis: Any, matrix: Tensor, top: float) -> None:
    axis.imshow(np.sqrt(matrix.abs().numpy() / top), cmap="magma_r", vmin=0, vmax=1, interpolation="nearest")
    size, units = len(matrix), 6
    axis.set_xticks([(i + 0.5) * size / units - 0.5 for i in range(units)], list("123456"))
    axis.set_yticks([])
    axis.grid(visible=False)


def _steps(axis: Any) -> None:
    digits = ds.data.digits(scale=16)
    problem = ds.Problem(
        model="mlp", objective="cross_entropy", train=digits.train,
        arguments={"depth": 3, "activation": "tanh"},
    )  # fmt: skip
    recipes = {
        "momentum, lr 0.3": (ds.Recipe(optimizer="momentum", lr=0.3, batch_size=256, steps=120), ORANGE),
        "Adam, lr 0.03": (ds.Recipe(optimizer="adam", lr=0.03, batch_size=256, steps=120), GREEN),
        "K-FAC": (ds.Recipe(optimizer="kfac", batch_size=256, steps=120), BLUE),
        "Hessian-free": (ds.Recipe(optimizer="hessian-free", steps=14), RED),
    }
    for label, (recipe, colour) in recipes.items():
        for seed in range(3):
            run = ds.fit(problem, recipe.edit(seed=seed), folder=False, progress=False)
            losses = run.history.series("train_loss")
            told = None if seed else label
            axis.semilogy(losses.steps, losses.values, color=colour, lw=1.1, alpha=0.85, label=told)
    axis.set(title="Digits, by steps (three seeds)", xlabel="step", ylabel="training loss of the batch")
    axis.set_ylim(3e-4, 4)
    axis.legend(loc="upper right", bbox_to_anchor=(1.02, 1.06))
