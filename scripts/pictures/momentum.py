"""Picture of chapter 4: averages of real mini-batch gradients, and Nesterov's correction."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

import downslope as ds
from scripts.pictures.entities import least_squares
from scripts.pictures.style import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, panels, save


def momentum() -> Path:
    """One weight's gradient from batch to batch, averaged; then smooth and noisy descent."""
    x, y = ds.data.diabetes(standardise=True).train
    figure, (averages, smooth, noisy) = panels(3, height=3.3)
    _averages(averages, x, y)
    problem = ds.Problem(model="linear", objective="squared_error", train=(x, y), valid=(x, y))
    lowest = least_squares(x, y)
    for name, colour in (("momentum", ORANGE), ("nesterov", BLUE)):
        recipe = ds.Recipe(optimizer=name, lr=0.01, momentum=0.9, steps=80, batch_size="full")
        series = ds.fit(problem, recipe, folder=False, progress=False).history.series("train_loss")
        smooth.plot(series.steps, series.values - lowest, color=colour, label=name)
        runs = ds.fit_population(
            problem, recipe.edit(batch_size=8, lr=0.01, steps=900), seeds=range(4), progress=False
        )
        each = [run.history.series("valid_loss") for run in runs]
        mean = np.mean([one.values[1:] for one in each], axis=0) - lowest
        noisy.plot(each[0].steps[1:], mean, color=colour, label=name)
    smooth.set(title="Full batch", xlabel="step", ylabel="loss above the minimum", yscale="log")
    noisy.set(title="Batches of 8, 4 seeds", xlabel="step", yscale="log", ylim=(50, 3000))
    smooth.legend(loc="upper right")
    noisy.legend(loc="upper right")
    return save(figure, "momentum")


def _averages(axis: Any, x: torch.Tensor, y: torch.Tensor) -> None:
    """Gradient of the body-mass index's weight, at zero, over 300 batches of 8, and four averages."""
    generator = torch.Generator().manual_seed(0)
    order = torch.cat([torch.randperm(len(x), generator=generator) for _ in range(7)])[: 8 * 300]
    target = y - y.mean()
    gradients = [float((-2 * x[i, 2] * target[i]).mean()) for i in order.split(8)]
    axis.plot(gradients, ".", ms=2, color=GREY)
    for beta, colour in ((0.5, GREEN), (0.9, BLUE), (0.95, PURPLE), (0.99, RED)):
        w = torch.nn.Parameter(torch.zeros(1))
        optimizer = ds.optim.SGD([w], lr=1.0, momentum=beta, dampening=beta)
        seen = [0.0]
        for g in gradients:
            w.grad = torch.full_like(w, g)
            optimizer.step()
            seen.append(float(w.detach()))
        axis.plot(-np.diff(seen), color=colour, lw=1.1 if beta < 0.9 else 1.6, label=f"β = {beta:g}")
    axis.set(title="A gradient, averaged", xlabel="step", ylabel="gradient of one weight")
    axis.legend(loc="lower left", ncols=2)
