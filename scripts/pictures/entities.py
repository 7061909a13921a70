"""Pictures of chapter 1: model, objective and optimisation process, each exchanged alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

import downslope as ds
from scripts.pictures.style import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, panels, save

_BMI = 2
"""Column of the body-mass index in the diabetes data."""


def three_entities() -> Path:
    """The same model under two objectives; the same objective by three processes."""
    x, y = ds.data.diabetes(standardise=True).train
    problem = ds.Problem(model="linear", objective="squared_error", train=(x[:, [_BMI]], y))
    recipe = ds.Recipe(optimizer="adam", lr=3.0, batch_size="full", steps=1500, schedule="cosine")
    figure, (left, right) = panels(2)
    left.scatter(x[:, _BMI], y, s=7, color=GREY, alpha=0.45, linewidths=0, rasterized=True)
    grid = torch.linspace(-2.3, 3.6, 2)[:, None]
    for objective, colour in (("squared_error", BLUE), ("absolute_error", ORANGE)):
        run = ds.fit(problem.edit(objective=objective), recipe, folder=False, progress=False)
        with torch.no_grad():
            left.plot(grid[:, 0], run.model()(grid)[:, 0], color=colour, label=objective)
    left.set(title="One model, two objectives", xlabel="body-mass index (standardised)")
    left.set_ylabel("progression of diabetes")
    left.legend(loc="upper left")
    whole = ds.Problem(model="linear", objective="squared_error", train=(x, y))
    best = least_squares(x, y)
    ways = {
        "gd lr 0.2": ds.Recipe(optimizer="gd", lr=0.2, steps=1000),
        "momentum 0.9 lr 0.02": ds.Recipe(optimizer="momentum", lr=0.02, batch_size="full", steps=1000),
        "adam lr 3": ds.Recipe(optimizer="adam", lr=3.0, batch_size="full", steps=1000),
    }
    for (label, way), colour in zip(ways.items(), (BLUE, GREEN, PURPLE), strict=True):
        run = ds.fit(whole, way.edit(precision="float64"), folder=False, progress=False)
        series = run.history.series("train_loss")
        right.plot(series.steps, np.maximum(series.values - best, 1e-9), color=colour, label=label)
    right.set(title="One objective, three processes", xlabel="step", yscale="log", xscale="log")
    right.set_ylabel("squared error above its minimum")
    right.legend(loc="lower left")
    return save(figure, "three-entities")


def least_squares(x: torch.Tensor, y: torch.Tensor) -> float:
    """The smallest mean squared error of a linear model with an intercept."""
    inputs = np.column_stack([x.double().numpy(), np.ones(len(x))])
    weights, *_ = np.linalg.lstsq(inputs, y.double().numpy(), rcond=None)
    return float(np.mean((inputs @ weights - y.double().numpy()) ** 2))


def objectives() -> Path:
    """Linear, logistic and softmax regression on real data, two of them on one feature, one on two."""
    figure, axes = panels(3, height=3.2)
    _linear(axes[0])
    _logistic(axes[1])
    _softmax(axes[2])
    return save(figure, "objectives")


def _fitted(problem: ds.Problem, lr: float, steps: int) -> Any:
    recipe = ds.Recipe(optimizer="gd", lr=lr, steps=steps)
    return ds.fit(problem, recipe, folder=False, progress=False).model()


def _linear(axis: Any) -> None:
    x, y = ds.data.diabetes(standardise=True).train
    model = _fitted(ds.Problem(model="linear", objective="squared_error", train=(x[:, [_BMI]], y)), 0.2, 300)
    grid = torch.linspace(-2.3, 3.6, 2)[:, None]
    axis.scatter(x[:, _BMI], y, s=6, color=GREY, alpha=0.4, linewidths=0, rasterized=True)
    with torch.no_grad():
        axis.plot(grid[:, 0], model(grid)[:, 0], color=BLUE)
    axis.set(title="linear: a real number", xlabel="body-mass index", ylabel="progression")


def _logistic(axis: Any) -> None:
    x, y = ds.data.breast_cancer(standardise=True).train
    model = _fitted(
        ds.Problem(model="logistic", objective="logistic", train=(x[:, [0]], y.float())), 1.0, 600
    )
    grid = torch.linspace(-2.2, 3.6, 150)[:, None]
    jitter = torch.rand(len(y), generator=torch.Generator().manual_seed(0)) * 0.1 - 0.05
    axis.scatter(x[:, 0], y + jitter, s=6, color=GREY, alpha=0.4, linewidths=0, rasterized=True)
    with torch.no_grad():
        axis.plot(grid[:, 0], torch.sigmoid(model(grid)[:, 0]), color=BLUE)
    axis.set(title="logistic: log-odds", xlabel="mean radius of the nuclei", ylabel="p(benign)")


def _softmax(axis: Any) -> None:
    x, y = ds.data.wine(standardise=True).train
    two = x[:, [0, 6]]
    model = _fitted(ds.Problem(model="softmax", objective="cross_entropy", train=(two, y)), 1.0, 600)
    across, up = torch.meshgrid(torch.linspace(-2.6, 2.6, 120), torch.linspace(-2, 3.2, 120), indexing="xy")
    with torch.no_grad():
        chosen = model(torch.stack([across.ravel(), up.ravel()], 1)).argmax(1).reshape(across.shape)
    levels, tints = [-0.5, 0.5, 1.5, 2.5], ["#cfe3f0", "#f7dccb", "#cdebe0"]
    axis.contourf(across, up, chosen, levels=levels, colors=tints)
    for label, colour in enumerate((BLUE, RED, GREEN)):
        axis.scatter(*two[y == label].T, s=9, color=colour, linewidths=0)
    axis.grid(visible=False)
    axis.set(title="softmax: one logit a class", xlabel="alcohol", ylabel="flavanoids of three wines")
