"""Pictures of chapter 8: the error of a measured risk, and where an error comes from."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

import downslope as ds
from downslope.training.evaluate import evaluate
from scripts.pictures.style import BLUE, GREEN, GREY, ORANGE, RED, panels, save

DRAWS = 300


def empirical_risk() -> Path:
    """The spread of a held-out loss and of a mini-batch gradient over draws, and risks along a run."""
    digits = ds.data.digits(scale=16)
    x, y = (torch.cat([a, b]) for a, b in zip(digits.train, digits.valid, strict=True))
    problem = ds.Problem(
        model="mlp", objective="cross_entropy", train=(x[:400], y[:400]), valid=(x[400:], y[400:]),
        metric="accuracy",
    )  # fmt: skip
    run = ds.fit(problem, ds.Recipe(lr=3e-3, epochs=12, seed=1), folder=False, progress=False)
    figure, (risk, slope, along) = panels(3, height=3.3)
    _risks(risk, problem, run.model(), x[400:], y[400:])
    _slopes(slope, run.model(), x[:400], y[:400])
    _along(along, problem)
    return save(figure, "empirical-risk")


def _risks(axis: Any, problem: ds.Problem, model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> None:
    sizes = [8, 16, 32, 64, 128, 256, 512]
    place = torch.Generator().manual_seed(0)
    spread: list[tuple[float, float]] = []
    told: list[tuple[float, float, float]] = []
    for n in sizes:
        found = []
        for _ in range(DRAWS):
            rows = torch.randint(0, len(x), (n,), generator=place)
            found.append(evaluate(problem.edit(train=(x[rows], y[rows])), model))
        spread.append((np.std([f.loss for f in found]), np.std([f.metric for f in found])))
        told.append(tuple(np.percentile([f.stderr for f in found], [10, 50, 90])))
    whole = evaluate(problem.edit(train=(x, y)), model)
    grid = np.geomspace(8, 512, 20)
    for each, (label, colour) in enumerate((("loss", BLUE), ("accuracy", ORANGE))):
        sigma = (whole.stderr, whole.metric_stderr)[each] * math.sqrt(whole.n)
        axis.plot(grid, sigma / np.sqrt(grid), color=colour, lw=1.3, label=f"{label}: σ/√n")
        axis.plot(sizes, [s[each] for s in spread], "o", color=colour, ms=5)
    low, _, high = zip(*told, strict=True)
    axis.fill_between(sizes, low, high, color=BLUE, alpha=0.13, lw=0)
    axis.set(
        xscale="log", yscale="log", xlabel="held-out examples n", title="Error of a measured mean",
    )  # fmt: skip
    axis.set_xticks([8, 32, 128, 512], ["8", "32", "128", "512"])
    axis.set_yticks([0.01, 0.02, 0.05, 0.1, 0.2], ["0.01", "0.02", "0.05", "0.1", "0.2"])
    axis.minorticks_off()
    axis.legend(loc="lower left")
    axis.text(0.97, 0.97, f"dots: spread of {DRAWS} draws", transform=axis.transAxes, ha="right", va="top",
              fontsize=8.5, color="#5b616b")  # fmt: skip


def _slopes(axis: Any, model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> None:
    parameters = list(model.parameters())
    place = torch.Generator().manual_seed(0)

    def gradient(rows: torch.Tensor) -> torch.Tensor:
        loss = functional.cross_entropy(model(x[rows]), y[rows])
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)])

    sizes = [1, 4, 16, 64, 256]
    means, spread = gradient(torch.arange(len(x))), []
    for n in sizes:
        rows = [gradient(torch.randint(0, len(x), (n,), generator=place)) for _ in range(DRAWS // 2)]
        spread.append(float(torch.stack([(g - means).square().sum() for g in rows]).mean().sqrt()))
    grid = np.geomspace(1, 256, 20)
    sigma = spread[0]
    axis.plot(grid, sigma / np.sqrt(grid), color=GREEN, lw=1.3, label="σ/√n")
    axis.plot(sizes, spread, "o", color=GREEN, ms=5)
    size = float(means.norm())
    axis.axhline(size, color=GREY, lw=1.1, ls="--")
    axis.text(256, size * 1.08, "length of the gradient", ha="right", fontsize=8.5, color="#5b616b")
    axis.set(
        xscale="log", yscale="log", xlabel="batch size n", title="Error of a mini-batch gradient",
    )  # fmt: skip
    axis.set_xticks(sizes, [str(n) for n in sizes])
    axis.set_yticks([0.25, 0.5, 1, 2, 4], ["0.25", "0.5", "1", "2", "4"])
    axis.minorticks_off()
    axis.legend(loc="lower left")


def _along(axis: Any, problem: ds.Problem) -> None:
    seen: list[tuple[int, Any, Any]] = []

    def look(state: Any) -> None:
        if not seen or state.step >= seen[-1][0] * 1.15 + 1:
            parts = (problem.train_source, problem.valid_source)
            seen.append((state.step, *(evaluate(problem, state.model, part) for part in parts)))

    ds.fit(
        problem, ds.Recipe(lr=3e-3, epochs=40, seed=1), folder=False, progress=False, on_probe=look,
        observe=0.5,
    )  # fmt: skip
    steps = [each[0] for each in seen[1:]]
    for at, (label, colour) in ((1, ("training", BLUE)), (2, ("held out", ORANGE))):
        loss = np.asarray([each[at].loss for each in seen[1:]])
        error = np.asarray([each[at].stderr for each in seen[1:]])
        axis.plot(steps, loss, color=colour, label=label)
        axis.fill_between(steps, loss - 2 * error, loss + 2 * error, color=colour, alpha=0.18, lw=0)
    axis.set(xlabel="step", yscale="log", title="Empirical risk, and risk", ylim=(8e-3, 3))
    axis.legend(loc="lower left")
    axis.text(0.97, 0.97, "band: ± 2 standard errors", transform=axis.transAxes, ha="right", va="top",
              fontsize=8.5, color="#5b616b")  # fmt: skip


def bias_variance() -> Path:
    """The learning curve of a network on the digits, and bias and variance of its classes."""
    digits = ds.data.digits(scale=16)
    x, y = (torch.cat([a, b]) for a, b in zip(digits.train, digits.valid, strict=True))
    problem = ds.Problem(
        model="mlp", objective="cross_entropy", train=(x[:900], y[:900]), valid=(x[900:], y[900:]),
        metric="accuracy",
    )  # fmt: skip
    recipe = ds.Recipe(lr=3e-3, epochs=30)
    curve = ds.learning_curve(
        problem, recipe, fractions=(1 / 16, 1 / 8, 1 / 4, 1 / 2, 1), seeds=5, progress=False
    )
    figure, (data, classes) = panels(2, height=3.7)
    _curve(data, curve)
    small = problem.edit(train=(x[:300], y[:300]), goal=0.99)
    run = ds.fit(small, ds.Recipe(lr=3e-3, epochs=9, seed=2), folder=False, progress=False)
    _classes(classes, ds.bias_variance(run))
    print(curve.said)
    return save(figure, "bias-variance")


def _curve(axis: Any, curve: Any) -> None:
    last = float(curve.sizes[-1])
    grid = np.geomspace(curve.sizes[0], 4 * last, 30)
    bounds = [curve.law.at(n) for n in grid]
    axis.fill_between(
        grid, [b.low for b in bounds], [b.high for b in bounds], color=GREY, alpha=0.22, lw=0,
        label="power law, 95 %",
    )  # fmt: skip
    axis.plot(grid, [b.value for b in bounds], ":", color="#5b616b", lw=1.5)
    for values, colour, label in ((curve.valid, ORANGE, "held out"), (curve.train, BLUE, "training")):
        axis.plot(np.repeat(curve.sizes, values.shape[1]), values.ravel(), ".", color=colour, alpha=0.4)
        axis.plot(curve.sizes, values.mean(1), "o-", color=colour, label=label)
    axis.axvline(last, color=GREY, lw=1, ls="--")
    axis.text(last * 1.06, 0.165, "all there is", fontsize=8.5, color="#5b616b")
    axis.set(
        xscale="log", xlabel="training examples", ylabel="share of errors", title="Would more data help?"
    )
    axis.set_xticks([60, 120, 240, 480, 960, 1920, 3840], ["60", "120", "240", "480", "960", "1920", "3840"])
    axis.minorticks_off()
    axis.set_ylim(-0.005, 0.27)
    axis.legend(loc="upper right")


def _classes(axis: Any, found: Any) -> None:
    rows = [*reversed(found.groups), found.all]
    for place, row in enumerate(rows):
        bias, start = row.train[0] - row.achievable, row.achievable
        axis.barh(place, start, color=GREEN, height=0.62)
        axis.barh(place, max(bias, 0), left=start, color=BLUE, height=0.62)
        axis.barh(place, max(row.variance, 0), left=max(row.train[0], start), color=ORANGE, height=0.62)
        axis.plot([row.valid[0] - row.valid[1], row.valid[0] + row.valid[1]], [place] * 2, color=RED, lw=1.3)
        axis.plot(row.valid[0], place, "o", color=RED, ms=3.5)
    axis.set_yticks(range(len(rows)), [row.group for row in rows])
    axis.set(xlabel="share of errors", ylabel="class", title="Both at once, class by class")
    for label, colour in (("achievable", GREEN), ("bias", BLUE), ("variance", ORANGE)):
        axis.barh(0, 0, color=colour, label=label)
    axis.plot([], [], "o-", color=RED, ms=3.5, lw=1.3, label="validation error ± its error")
    axis.grid(visible=False, axis="y")
    axis.legend(loc="lower right")
