"""Pictures of chapter 16, the spectrum: a density beside the dense one, intervals that cover, the edge of
stability.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

import downslope as ds
from downslope.terrain import density, trace
from downslope.terrain.ground import ModelGround, ground_of
from downslope.terrain.operators import dense
from scripts.pictures.style import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, panels, save


def spectrum() -> Path:
    """The eigenvalues of a trained network's Hessian, known by products alone; its trace, forty times
    over.
    """
    figure, (whole, covered) = panels(2, height=3.5, width=10.6, width_ratios=[1.55, 1])
    ground = trained()
    values = np.sort(torch.linalg.eigvalsh(dense(ground.hessian())).numpy())
    _density(whole, ground, values)
    _intervals(covered, ground, float(values.sum()))
    return save(figure, "spectrum")


def trained() -> ModelGround:
    """A network on the digits after 300 steps of Adam: 1,810 weights."""
    x, y = load_digits(return_X_y=True)
    problem = ds.Problem(
        model=lambda: nn.Sequential(nn.Linear(64, 24), nn.Tanh(), nn.Linear(24, 10)).double(),
        objective="cross_entropy",
        train=(torch.tensor(x / 16), torch.tensor(y)),
    )
    run = ds.fit(problem, ds.Recipe(optimizer="adam", lr=0.01, steps=300), folder=False, progress=False)
    return ground_of(problem, run, examples=1000)


def _density(axis: Any, ground: ModelGround, values: np.ndarray) -> None:
    found = density(ground.hessian(), probes=8, steps=60, points=330)
    z = (found.grid[:, None] - values) / found.width
    truth = np.exp(-z * z / 2).mean(axis=1) / math.sqrt(2 * math.pi) / found.width
    shift = 0.02  # a symmetric logarithm needs a scale: below it the axis is linear
    at = np.arcsinh(found.grid / shift)
    axis.fill_between(
        at, np.maximum(found.values - found.error, 1e-5), found.values + found.error, color=BLUE, alpha=0.22,
        lw=0, label="stated error, 95 %",
    )  # fmt: skip
    axis.plot(at, np.maximum(found.values, 1e-5), color=BLUE, lw=1.6, label=f"{found.products} products")
    axis.plot(
        at, np.maximum(truth, 1e-5), color=ORANGE, lw=1.2, ls="--", label="all 1,810 eigenvalues, float64"
    )
    axis.plot(
        np.arcsinh(values / shift),
        np.full_like(values, 1.5e-4),
        "|",
        color=GREY,
        ms=5,
        mew=0.7,
        rasterized=True,
    )
    ticks = [-0.1, -0.02, 0.0, 0.02, 0.1, 0.5, 2, 8]
    axis.set_xticks(np.arcsinh(np.asarray(ticks) / shift), [f"{t:g}" for t in ticks])
    low, high = values[0] - 4 * found.width, values[-1] * 1.25
    axis.set(yscale="log", ylim=(1e-4, 400), xlim=tuple(np.arcsinh(np.asarray([low, high]) / shift)))
    axis.set(title="Eigenvalues of a trained network's Hessian", xlabel="eigenvalue", ylabel="density")
    axis.legend(loc="upper right")


def _intervals(axis: Any, ground: ModelGround, truth: float) -> None:
    hessian = ground.hessian()
    found = [trace(hessian, tol=0.1, seed=seed) for seed in range(40)]
    for row, each in enumerate(found):
        covers = each.low <= truth <= each.high
        axis.plot([each.low, each.high], [row, row], color=GREEN if covers else RED, lw=1.5)
        axis.plot(each.value, row, "o", color=GREEN if covers else RED, ms=2.6)
    axis.axvline(truth, color="#30343b", lw=1.1, ls="--")
    covered = sum(each.low <= truth <= each.high for each in found)
    products = sum(each.products for each in found) / len(found)
    axis.set(title=f"The trace, {covered} of 40 intervals cover", xlabel="sum of the eigenvalues", yticks=[])
    axis.set_ylabel(f"seeds, {products:.0f} products each on average")


def edge_of_stability() -> Path:
    """Sharpness along three runs of full-batch descent, against 2/lr; what their losses do; noise along a
    run.
    """
    figure, (sharp, loss, adam) = panels(3, height=3.3, width=11.6)
    for lr, colour in ((1.2, RED), (0.8, ORANGE), (0.5, BLUE)):
        how = ds.Recipe(optimizer="gd", lr=lr, batch_size="full", steps=2400)
        run = ds.fit(_digits(), how, folder=False, progress=False, terrain=0.5)
        seen = run.history.series("sharpness")
        sharp.plot(*seen, ".-", ms=2.5, lw=1.1, color=colour, label=f"lr {lr:g}")
        sharp.axhline(2 / lr, color=colour, lw=1.0, ls="--")
        sharp.text(2420, 2 / lr, f"2/{lr:g}", color=colour, fontsize=8, va="center")
        falling = run.history.series("train_loss")
        loss.plot(falling.steps, falling.values, color=colour, lw=0.9)
    sharp.set(
        title="Sharpness climbs to 2/lr and stays", xlabel="step", ylabel="largest eigenvalue", ylim=(0, None)
    )
    sharp.legend(loc="lower right")
    loss.set(title="The loss goes on falling", xlabel="step", ylabel="squared error", yscale="log")
    _adam(adam)
    return save(figure, "edge-of-stability")


def _adam(axis: Any) -> None:
    """Adam's own edge: the Hessian through its scale, against 38/lr."""
    for lr, colour in ((0.004, GREEN), (0.002, PURPLE)):
        how = ds.Recipe(optimizer="adam", lr=lr, batch_size="full", steps=1500)
        run = ds.fit(_digits(), how, folder=False, progress=False, terrain=0.5)
        seen = run.history.series("sharpness")
        axis.plot(*seen, ".-", ms=2.5, lw=1.1, color=colour, label=f"lr {lr:g}")
        axis.axhline(38 / lr, color=colour, lw=1.0, ls="--")
        axis.text(1510, 38 / lr, f"38/{lr:g}", color=colour, fontsize=8, va="center")
    axis.set(
        title="Adam: preconditioned, to 38/lr", xlabel="step", ylabel="largest eigenvalue", ylim=(0, None)
    )
    axis.legend(loc="lower right")


def _digits() -> ds.Problem:
    """A tanh network on 200 digits, one-hot targets under a squared error."""
    x, y = load_digits(return_X_y=True)
    targets = nn.functional.one_hot(torch.tensor(y[:200]), 10).float()
    return ds.Problem(
        model=lambda: nn.Sequential(
            nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 10)
        ),
        objective="squared_error",
        train=(torch.tensor(x[:200] / 16 - 0.3, dtype=torch.float32), targets),
    )
