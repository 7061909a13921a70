"""Pictures of chapter 4: the three causes, the size of the step, schedules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.lines import Line2D

import downslope as ds
from scripts.pictures.entities import least_squares
from scripts.pictures.style import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, panels, save

_COLOURS = (BLUE, ORANGE, GREEN, PURPLE, RED)


def start_terrain_step() -> Path:
    """The same task three times: only the start, only the terrain, only the step is varied."""
    digits = ds.data.digits(scale=16)
    problem = ds.Problem(
        model="mlp", objective="cross_entropy", train=digits.train, valid=digits.valid, metric="accuracy",
        arguments={"depth": 3},
    )  # fmt: skip
    recipe = ds.Recipe(optimizer="sgd", lr=0.3, epochs=15)
    varied: dict[str, dict[str, tuple[ds.Problem, ds.Recipe]]] = {
        "start alone": {
            "torch's own": (problem, recipe),
            'init="he"': (problem, recipe.edit(init="he")),
            'init="normal"': (problem, recipe.edit(init="normal")),
        },
        "terrain alone": {
            "relu": (problem, recipe),
            "tanh": (problem.edit(**{"model.activation": "tanh"}), recipe),
            "sigmoid": (problem.edit(**{"model.activation": "sigmoid"}), recipe),
        },
        "step alone": {
            "lr 0.3": (problem, recipe),
            "lr 0.1": (problem, recipe.edit(lr=0.1)),
            "lr 3": (problem, recipe.edit(lr=3.0)),
        },
    }
    figure, axes = panels(3, height=3.1, sharey=True)
    for axis, (title, runs) in zip(axes, varied.items(), strict=True):
        for (label, (what, how)), colour in zip(runs.items(), _COLOURS, strict=False):
            series = ds.fit(what, how, folder=False, progress=False).history.series("valid_loss")
            axis.plot(series.steps, series.values, color=colour, label=label)
        axis.set(title=title, xlabel="step", ylim=(0, 3.6))
        axis.legend(loc="upper right")
    axes[0].set_ylabel("validation cross-entropy")
    return save(figure, "start-terrain-step")


def gradient_descent() -> Path:
    """Paths over the contours of two weights, and the measured error factor beside the theoretical one."""
    x, y = ds.data.diabetes(standardise=True).train
    two = x[:, [4, 5]]  # total cholesterol and LDL, strongly correlated
    figure, (map_, rates) = panels(2, height=3.9)
    _paths(map_, two, y - y.mean())
    _rates(rates, two, y)
    return save(figure, "gradient-descent")


def curvature(x: torch.Tensor) -> Any:
    """Eigenvalues of the Hessian of the mean squared error, intercept included, in ascending order."""
    inputs = np.column_stack([x.double().numpy(), np.ones(len(x))])
    return np.linalg.eigvalsh(2 * inputs.T @ inputs / len(x))


def _paths(axis: Any, x: torch.Tensor, y: torch.Tensor) -> None:
    """Gradient descent on two strongly correlated features, from one start, at three rates."""
    inputs = x.double().numpy()
    best, *_ = np.linalg.lstsq(inputs, y.double().numpy(), rcond=None)
    hessian = 2 * inputs.T @ inputs / len(x)
    top = np.linalg.eigvalsh(hessian)[-1]
    start = best + np.array([-18.0, 38.0])
    span = (-38.0, 38.0)
    across, up = np.meshgrid(np.linspace(*span, 80) + best[0], np.linspace(*span, 80) + best[1] + 10)
    apart = np.stack([across - best[0], up - best[1]])
    height = 0.5 * np.einsum("iab,ij,jab->ab", apart, hessian, apart)
    axis.contour(across, up, np.sqrt(height), levels=11, colors="#c3c7cf", linewidths=0.8)
    for share, colour in ((0.97, PURPLE), (0.5, GREEN), (0.03, ORANGE)):
        path = _followed(x, y, start, share * 2 / top, 40)
        axis.plot(*path.T, "o-", ms=2.6, lw=1.0, color=colour, label=f"lr = {share:g} × 2/λ_max")
    axis.plot(*best, "*", ms=11, color=RED)
    axis.set(title="40 steps at three rates", xlabel="weight of total cholesterol", ylabel="weight of LDL")
    axis.legend(loc="lower left")


def _followed(x: torch.Tensor, y: torch.Tensor, start: Any, lr: float, steps: int) -> Any:
    """The weights after every step from `start`, shape (steps + 1, 2)."""
    model = torch.nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.from_numpy(start)[None])
    problem = ds.Problem(model=model, objective="squared_error", train=(x, y))
    seen = [start]
    for length in range(1, steps + 1):
        recipe = ds.Recipe(optimizer="gd", lr=lr, steps=length)
        run = ds.fit(problem, recipe, folder=False, progress=False, observe=0)
        seen.append(run.model().weight.detach().numpy()[0])
    return np.array(seen)


def _rates(axis: Any, x: torch.Tensor, y: torch.Tensor) -> None:
    """By what a step multiplies the error, over the rate."""
    eigenvalues = curvature(x)
    low, top = eigenvalues[0], eigenvalues[-1]
    limit = 2 / top
    shares = np.concatenate([np.linspace(0.03, 0.97, 25), np.linspace(0.98, 1.06, 7)])
    measured = [_factor(x, y, share * limit) for share in shares]
    fine = np.linspace(0.005, 1.07, 400)
    theory = np.maximum(np.abs(1 - fine * limit * low), np.abs(1 - fine * limit * top))
    axis.plot(fine, theory, color=GREY, label="max |1 - lr λ|")
    axis.plot(shares, measured, "o", ms=3.6, color=BLUE, label="measured")
    best = 2 / (low + top) / limit
    axis.axvline(1.0, color=RED, lw=1.1, ls="--")
    axis.text(best - 0.02, 1.075, "2/λ_max", color=RED, ha="right", fontsize=8.5)
    axis.axvline(best, color=GREEN, lw=1.1, ls=":")
    axis.text(best - 0.02, 1.03, "2/(λ_min + λ_max)", color=GREEN, ha="right", fontsize=8.5)
    axis.axhline(1.0, color=GREY, lw=0.8)
    axis.set(title="Error factor of one step", xlabel="lr as a share of 2/λ_max", ylim=(0.885, 1.1))
    axis.legend(loc="upper left")


def _factor(x: torch.Tensor, y: torch.Tensor, lr: float) -> float:
    """By what a step multiplies the distance from the minimum, once the fast directions have died."""
    eigenvalues = curvature(x)
    slowest = np.sort(np.abs(1 - lr * eigenvalues))[::-1]
    steps = int(min(4000, max(60, 12 / abs(np.log(slowest[0])))))
    problem = ds.Problem(model="linear", objective="squared_error", train=(x, y))
    recipe = ds.Recipe(optimizer="gd", lr=lr, steps=steps, precision="float64")
    run = ds.fit(problem, recipe, folder=False, progress=False, observe=0)
    excess = run.history.series("train_loss").values - least_squares(x, y)
    back = steps // 4
    return float((excess[-1] / excess[-1 - back]) ** (1 / (2 * back)))


INK = "#30343b"
FALLING = {
    "step": BLUE, "exponential": ORANGE, "cosine": GREEN, "inverse_sqrt": PURPLE, "linear": RED,
    "stairs": INK,
}  # fmt: skip
RISING = {
    "one_cycle": BLUE, "warmup_stable_decay": ORANGE, "cosine_restarts": GREEN, "cyclic": RED,
    "plateau": PURPLE,
}  # fmt: skip
ON_PLATEAUS = "plateau(factor=0.5, patience=1)"


def schedules() -> Path:
    """The factors, and what they do to the jitter of SGD."""
    x, y = ds.data.diabetes(standardise=True).train
    x = x[:, [2, 3, 8]]
    best = least_squares(x, y)
    # The training data stand in for validation too: measured is the loss over all of them after every epoch.
    problem = ds.Problem(model="linear", objective="squared_error", train=(x, y), valid=(x, y))
    recipe = ds.Recipe(optimizer="sgd", lr=0.1, batch_size=8, epochs=40)
    figure, (falling, rising, jitter) = panels(3, height=3.5)
    for axis, names in ((falling, FALLING), (rising, RISING)):
        for name, colour in names.items():
            spelt = ON_PLATEAUS if name == "plateau" else name
            run = ds.fit(problem, recipe.edit(schedule=spelt), folder=False, progress=False, observe=0)
            series = run.history.series("lr")
            kept = slice(None, None, 6)
            axis.plot(series.steps[kept], series.values[kept] / recipe.lr, color=colour, label=name, lw=1.4)
    for name, colour in {"constant": GREY, **FALLING, **RISING}.items():
        if name in ("stairs", "cyclic", "linear"):
            continue
        spelt = ON_PLATEAUS if name == "plateau" else name
        runs = ds.fit_population(problem, recipe.edit(schedule=spelt), seeds=range(5), progress=False)
        series = [run.history.series("valid_loss") for run in runs]
        above = np.mean([each.values[1:] for each in series], axis=0) - best
        dashes = "--" if name in RISING else "-"
        jitter.plot(series[0].steps[1:], above, color=colour, ls=dashes, lw=1.3)
    falling.set(title="That fall", xlabel="step", ylim=(-0.02, 1.35))
    falling.set_ylabel("factor of the rate")
    rising.set(title="That rise or return", xlabel="step", ylim=(-0.02, 1.35))
    for axis in (falling, rising):
        axis.set_yticks(np.linspace(0, 1, 6))
        axis.legend(loc="upper right", ncols=2, fontsize=7.5, columnspacing=0.9, handlelength=1.2)
    jitter.set(title="What they do to the jitter", xlabel="step", yscale="log")
    jitter.set_ylabel("loss above the minimum, 5 seeds")
    told = (("constant", GREY, "-"), ("that fall", INK, "-"), ("that rise or return", INK, "--"))
    handles = [Line2D([], [], color=colour, ls=dashes, lw=1.3, label=name) for name, colour, dashes in told]
    jitter.legend(handles=handles, loc="lower left", fontsize=7.5)
    return save(figure, "schedules")
