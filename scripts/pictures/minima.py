"""Pictures of chapter 16: local minima, saddle points, and who escapes from them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch

import downslope as ds
from downslope.terrain.critical.random_ground import random_function, signs
from scripts.pictures.style import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, beside

COLOURS = {"gd": BLUE, "sgd": ORANGE, "momentum": GREEN, "nesterov": PURPLE, "rmsprop": GREY, "adam": RED}


def local_minima() -> Path:
    """Where descent ends from each start; who leaves the local minimum; the minima of wider networks."""
    return beside("local-minima", _basins, _leaving, _widths, height=3.3)


def _basins(axis: Any) -> None:
    f = ds.functions.x_cos_pi_x()
    x = torch.linspace(-1.0, 2.0, 400, dtype=torch.float64)[:, None]
    axis.plot(x[:, 0], f(x), color=GREY, lw=1.6)
    starts = torch.linspace(-0.95, 1.9, 20, dtype=torch.float64)[:, None]
    points = torch.nn.Parameter(starts.clone())
    optimizer = ds.optim.GD([points], lr=0.02)
    for _ in range(500):
        (points.grad,) = torch.autograd.grad(f(points).sum(), [points])
        optimizer.step()
    low = points.detach()[:, 0] < 0.5
    for chosen, colour, label in ((low, ORANGE, "to the local minimum"), (~low, BLUE, "to the global one")):
        axis.plot(starts[chosen], f(starts[chosen]), "o", ms=4, color=colour, label=label)
    for each, colour in zip(f.minima, (BLUE, ORANGE), strict=True):
        axis.plot(each.at[0], each.value, "*", ms=11, color=colour)
        axis.annotate(f"{each.value:.3f}", (each.at[0], each.value - 0.12), ha="center", va="top", fontsize=8)
    axis.set(title="The start chooses the minimum", xlabel="x", ylabel="x cos(πx)", ylim=(-1.5, 2.4))
    axis.legend(loc="upper left")


def _leaving(axis: Any) -> None:
    found = ds.escape(
        "x_cos_pi_x", {"sgd": {}, "momentum": {"lr": 0.005}, "rmsprop": {}, "adam": {}, "gd": {}},
        noise=2.0, lr=0.05, steps=1500, seeds=300,
    )  # fmt: skip
    for trial in found:
        gone = np.sort(trial.left[np.isfinite(trial.left)])
        shares = np.arange(len(gone) + 1) / trial.seeds
        axis.step(
            [0, *gone, trial.budget], [*shares, shares[-1]], where="post", color=COLOURS[trial.method],
            label=f"{trial.method}, lr {trial.lr:g}",
        )  # fmt: skip
    axis.set(title="Who leaves the local minimum", xlabel="step", ylabel="share of 300 seeds that left")
    axis.set_ylim(-0.02, 1.42)
    axis.set_yticks(np.linspace(0, 1, 6))
    axis.legend(loc="upper left", fontsize=7.5, ncols=2, columnspacing=1.0, handlelength=1.4)


def _widths(axis: Any) -> None:
    x = torch.linspace(-2, 2, 32)[:, None]
    widths = (1, 2, 3, 4, 6, 8, 16, 32)
    for width in widths:
        problem = ds.Problem(
            model="mlp", objective="squared_error", train=(x, torch.sin(3 * x)),
            arguments={"width": width, "depth": 1, "activation": "tanh"},
        )  # fmt: skip
        recipe = ds.Recipe(optimizer="lbfgs", batch_size="full", steps=300, precision="float64")
        losses = [
            ds.fit(problem, recipe.edit(seed=seed), folder=False, progress=False, observe=0).summary[
                "train_loss"
            ]
            for seed in range(20)
        ]
        axis.plot([width] * len(losses), losses, "o", ms=3.5, color=BLUE, alpha=0.45, mew=0)
        axis.plot(width, np.median(losses), "_", ms=14, mew=2, color=ORANGE)
    axis.axhline(float(torch.sin(3 * x).square().mean()), color=GREY, lw=0.9, ls=":")
    axis.text(
        32,
        float(torch.sin(3 * x).square().mean()) * 1.15,
        "constant guess",
        ha="right",
        fontsize=7.5,
        color=GREY,
    )
    axis.set(title="Minima of wider networks", xlabel="units", xscale="log", yscale="log")
    axis.set_ylabel("final loss, 20 seeds (bar: median)")
    axis.set_xticks(widths, [str(each) for each in widths])
    axis.minorticks_off()


def saddle_points() -> Path:
    """Steps to leave a saddle against the distance from it; saddles by dimension; index by loss."""
    return beside("saddle-points", _steps, _share, _index, height=3.3)


def _steps(axis: Any) -> None:
    """Median and quartiles of 100 seeds, at lr 0.02, with full batches and with batches of one."""
    distances = np.logspace(-7, -1, 7)
    for size, dash in (("full", "-"), (1, ":")):
        for method in ("gd", "momentum", "adam"):
            name = "sgd" if method == "gd" and size == 1 else method
            trials = [
                ds.escape(
                    "saddle", name, lr=0.02, batch_size=size, spread=float(each), seeds=100, steps=2000
                ).trials[0]
                for each in distances
            ]
            middle = [each.median for each in trials]
            colour = COLOURS[method]
            axis.plot(
                distances,
                middle,
                dash,
                marker="o",
                ms=3,
                color=colour,
                label=f"{name}, {'full' if size == 'full' else 'batch 1'}",
            )
            axis.fill_between(
                distances, *np.array([each.quartiles for each in trials]).T, color=colour, alpha=0.12, lw=0
            )
    fine = np.logspace(-7.2, -0.8, 50)
    theory = np.log(1 / (0.6745 * fine)) / math.log(1 + 0.02 * 2)
    axis.plot(fine, theory, color=GREY, lw=1.0, ls="--", label="log(1/ε)/log(1 + lr m)")
    axis.set(title="Steps to leave x² - y²", xlabel="distance ε of the start", xscale="log", ylim=(0, 460))
    axis.set_ylabel("median step (quartiles), lr 0.02")
    axis.legend(loc="upper right", fontsize=7, ncols=1)


def _share(axis: Any) -> None:
    dimensions = np.arange(1, 8)
    measured = [signs(int(n), 20_000) for n in dimensions]
    axis.plot(
        dimensions, [each.saddles for each in measured], "-o", ms=4, color=BLUE, label="random matrices"
    )
    exact = [0.0, 1 - (2 - math.sqrt(2)) / 2, 0.5 + math.sqrt(2) / math.pi]
    axis.plot(dimensions[:3], exact, "o", ms=9, mfc="none", color=GREY, label="exact")
    shares = []
    for n in dimensions[:6]:
        kinds = [
            kind
            for ground in (random_function(int(n), seed) for seed in range(6))
            for kind in ds.critical_points(ground, starts=200, along=[0], steps=80).kinds
        ]
        shares.append(kinds.count("saddle") / len(kinds))
    axis.plot(dimensions[:6], shares, "-s", ms=4, color=ORANGE, label="critical points of random functions")
    axis.set(title="Saddles take over", xlabel="dimension", ylabel="share of saddles", ylim=(-0.03, 1.2))
    axis.legend(loc="lower right", fontsize=7.5)


def _index(axis: Any) -> None:
    x = torch.linspace(-2, 2, 30)[:, None]
    problem = ds.Problem(
        model="mlp", objective="penalised(squared_error, l2=0.01)", train=(x, torch.sin(2.5 * x)),
        arguments={"width": 6, "depth": 1, "activation": "tanh"},
    )  # fmt: skip
    found = ds.critical_points(problem, starts=60, along=[0, 10, 30, 100, 300, 1000], steps=150)
    axis.plot(found.index, found.losses, "o", ms=4, color=BLUE, alpha=0.6, mew=0)
    axis.set(title="Higher, and more ways down", xlabel="index: share of negative eigenvalues")
    axis.set_ylabel(f"loss of {len(found)} critical points")
    axis.set_yscale("log")
    axis.set_yticks([0.1, 0.2, 0.5], ["0.1", "0.2", "0.5"])
    axis.minorticks_off()
    told = (
        f"rank correlation {found.correlation():.2f}\n19 parameters\n{found.stalled} of {found.tried} stalled"
    )
    axis.text(0.03, 0.97, told, transform=axis.transAxes, va="top", fontsize=8)
