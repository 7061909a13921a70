"""Pictures of chapter 9: the closed form and where it breaks, runs above their minimum, convex sets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.patches import Circle, Rectangle
from torch import nn

import downslope as ds
from scripts.pictures.style import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, beside, panels, save

INK = "#30343b"


def closed_form() -> Path:
    """Error over condition by three ways; a valley of minima; a run beside its minimum."""
    return beside("closed-form", _errors, _valley, _gaps, height=3.4, width=11.4)


def _errors(axis: Any) -> None:
    conditions = np.logspace(1, 15, 29)
    found: dict[str, list[float]] = {"normal equations": [], "QR (ds.solve)": []}
    draw = np.random.default_rng(0)
    left, right = np.linalg.qr(draw.normal(size=(60, 8)))[0], np.linalg.qr(draw.normal(size=(8, 8)))[0]
    for condition in conditions:
        x = left * np.logspace(0, -np.log10(condition), 8) @ right
        w = np.ones(8)
        y = x @ w
        model = nn.Linear(8, 1, bias=False)
        exact = ds.solve(ds.Problem(model=model, objective="squared_error", train=(x, y[:, None])))
        try:
            by_hand = np.linalg.solve(x.T @ x, x.T @ y)
        except np.linalg.LinAlgError:
            by_hand = np.full(8, np.nan)  # it has no answer at all
        for name, answer in (
            ("normal equations", by_hand),
            ("QR (ds.solve)", exact.weights["weight"][0].numpy()),
        ):
            found[name].append(float(np.maximum(np.linalg.norm(answer - w) / np.linalg.norm(w), 1e-17)))
    for (name, values), colour in zip(found.items(), (RED, BLUE), strict=True):
        axis.plot(conditions, values, "o-", color=colour, ms=3, lw=1.2, label=name)
    for power, colour in ((2, RED), (1, BLUE)):
        axis.plot(conditions, 1e-16 * conditions**power, ":", color=colour, lw=1.1)
    axis.text(3e2, 4e-9, "ε cond²", color=RED, fontsize=8.5, rotation=47)
    axis.text(3e9, 1.2e-9, "ε cond", color=BLUE, fontsize=8.5, rotation=27)
    axis.axhline(1, color=GREY, lw=1.0, ls="--")
    axis.set(
        title="Digits lost on the way to w", xlabel="condition of the data", ylabel="relative error of w"
    )
    axis.set(xscale="log", yscale="log", ylim=(1e-17, 1e3))
    axis.legend(loc="lower right")


def _valley(axis: Any) -> None:
    """A column twice: J falls to a line of minima; descent stops where it meets it, solve at its shortest."""
    draw = np.random.default_rng(1)
    column = draw.normal(size=(40, 1))
    x, y = np.hstack([column, column]), 1.6 * column + 0.1 * draw.normal(size=(40, 1))
    grid = np.linspace(-1.2, 2.8, 81)
    a, b = np.meshgrid(grid, grid)
    values = ((x[:, 0, None, None] * a + x[:, 1, None, None] * b - y[:, 0, None, None]) ** 2).mean(0)
    axis.contour(a, b, np.log10(values), levels=12, colors="#c9cdd5", linewidths=0.8, linestyles="solid")
    problem = ds.Problem(model=nn.Linear(2, 1, bias=False), objective="squared_error", train=(x, y))
    shortest = ds.solve(problem).weights["weight"][0].numpy()
    axis.plot(grid, shortest.sum() - grid, color=GREEN, lw=2.0, label="all minima")
    for start, colour in (((-0.9, 0.7), ORANGE), ((2.5, 0.9), PURPLE)):
        path = _path(problem, start, ds.Recipe(optimizer="gd", lr=0.06, steps=40))
        axis.plot(*path.T, ".-", color=colour, ms=3, lw=1.0)
        axis.plot(*path[-1], "o", color=colour, ms=5)
    axis.plot(0, 0, "+", color=INK)
    axis.plot([0, shortest[0]], [0, shortest[1]], ":", color=INK, lw=1.0)
    axis.plot(*shortest, "*", color=BLUE, ms=11, label="the shortest: ds.solve")
    axis.set(title="One column twice: a valley", xlabel="w₁", ylabel="w₂", xlim=(-1.2, 2.8), ylim=(-1.2, 2.8))
    axis.set_aspect("equal")
    axis.grid(visible=False)
    axis.legend(loc="upper right", handlelength=1.4)


def _path(problem: ds.Problem, start: tuple[float, float], recipe: ds.Recipe) -> Any:
    """The weights from step to step, from `start`."""
    seen: list[Any] = []
    model = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([start]))

    def look(state: Any) -> None:
        seen.append(state.model.weight.detach()[0].numpy().copy())

    ds.fit(problem.edit(model=model), recipe, folder=False, progress=False, observe=0.99, on_probe=look)
    return np.array(seen)


def _gaps(axis: Any) -> None:
    table = ds.data.breast_cancer(standardise=True)
    x, y = table.train
    objective = ds.objectives.penalised("logistic", l2=1e-2)
    problem = ds.Problem(model="logistic", objective=objective, train=(x.double(), y.double()))
    best = ds.solve(problem).objective
    shared = {"batch_size": "full", "precision": "float64"}
    recipes = (
        ("gradient descent", ds.Recipe(optimizer="gd", lr=1.0, steps=1200, **shared), BLUE),
        ("Nesterov, 0.9", ds.Recipe(optimizer="nesterov", momentum=0.9, lr=1.0, steps=400, **shared), ORANGE),
        (
            "Adam, batch 32",
            ds.Recipe(optimizer="adam", lr=0.01, epochs=80, batch_size=32, precision="float64"),
            GREY,
        ),
    )
    for name, recipe, colour in recipes:
        run = ds.fit(problem, recipe, folder=False, progress=False)
        if "batch" in name:
            values = _evaluated(problem, recipe, best)
            axis.plot(*values, color=colour, label=name, lw=1.2)
            continue
        series = run.history.series("train_objective")
        gaps = np.maximum(series.values - best, 1e-16)
        axis.plot(series.steps, gaps, color=colour, label=name)
        rate = run.facts["convexity"]["rate"]["theory"]
        at = int(np.argmin(gaps > 1e-7))
        steps = series.steps[max(at - 250, 0) : at + 150]
        axis.plot(steps, 0.12 * gaps[at] * rate ** (steps - series.steps[at]), ":", color=colour, lw=1.6)
    axis.set(title="Runs above their minimum", xlabel="step", ylabel="J - J*", yscale="log")
    axis.set(ylim=(1e-15, 3), xlim=(0, 1200))
    axis.text(1180, 3e-7, "dotted: the rate\nof theory", ha="right", fontsize=8.5, color="#5b616b")
    axis.legend(loc="upper right")


def _evaluated(problem: ds.Problem, recipe: ds.Recipe, best: float) -> tuple[list[int], list[float]]:
    """The whole objective at the probed steps, less the minimum."""
    steps: list[int] = []
    gaps: list[float] = []
    x, y = problem.train_source.batch
    objective = problem.objective

    def look(state: Any) -> None:
        with torch.no_grad():
            value = objective(state.model(x), y) + sum(objective.penalties(state.model).values())
        steps.append(state.step)
        gaps.append(max(float(value) - best, 1e-16))

    ds.fit(problem, recipe, folder=False, progress=False, observe=0.5, on_probe=look)
    return steps, gaps


def convex_sets() -> Path:
    """Projected descent on three sets; nearest common point; a union and what goes wrong in it."""
    figure, axes = panels(3, height=3.6, width=11.4)
    _held(axes[0])
    _common(axes[1])
    _union(axes[2])
    for axis in axes:
        axis.set_aspect("equal")
        axis.grid(visible=False)
    return save(figure, "convex-sets")


def _quadratic() -> tuple[ds.Problem, Any]:
    """Least squares in two weights, lowest at (1.5, 0.9), and its value."""
    x = np.array([[1.2, 0.5], [0.4, 1.0], [0.9, -0.5], [0.3, 0.9]])
    best = np.array([1.5, 0.9])
    problem = ds.Problem(
        model=nn.Linear(2, 1, bias=False), objective="squared_error", train=(x, (x @ best)[:, None])
    )
    return problem, lambda a, b: (((x[:, 0, None, None] * a + x[:, 1, None, None] * b)
                                   - (x @ best)[:, None, None]) ** 2).mean(0)  # fmt: skip


def _contours(axis: Any, value: Any, low: float, high: float) -> None:
    grid = np.linspace(low, high, 121)
    a, b = np.meshgrid(grid, grid)
    axis.contour(
        a, b, np.log10(value(a, b) + 1e-3), levels=12, colors="#d3d6dd", linewidths=0.8, linestyles="solid"
    )
    axis.set(xlim=(low, high), ylim=(low, high), xlabel="w₁", ylabel="w₂")


def _held(axis: Any) -> None:
    problem, value = _quadratic()
    _contours(axis, value, -1.4, 1.9)
    axis.add_patch(Circle((0, 0), 1.0, fill=True, fc=BLUE, alpha=0.10, ec=BLUE))
    axis.add_patch(Rectangle((-0.5, -0.5), 1.0, 1.0, fc=ORANGE, alpha=0.14, ec=ORANGE))
    axis.plot([1, 0], [0, 1], color=GREEN, lw=2.2)
    recipe = ds.Recipe(optimizer="gd", lr=0.25, steps=60)
    shown = ((None, GREY), ("l2_ball(1)", BLUE), ("box(-0.5, 0.5)", ORANGE), ("simplex", GREEN))
    for constraint, colour in shown:
        path = _path(problem.edit(constraint=constraint), (-1.1, 0.2), recipe)
        axis.plot(*path.T, ".-", color=colour, ms=3.5, lw=1.1, label=constraint or "none")
        axis.plot(*path[-1], "o", color=colour, ms=6)
    axis.set(title="Step, then back to the nearest point")
    axis.legend(loc="lower right", handlelength=1.3)


def _common(axis: Any) -> None:
    line, ball = ds.constraints.simplex(), ds.constraints.box(0.0, 0.62)
    start = torch.tensor([1.75, 0.95], dtype=torch.float64)
    axis.plot([1, 0], [0, 1], color=GREEN, lw=2.0, label="simplex")
    axis.add_patch(Rectangle((0, 0), 0.62, 0.62, fc=ORANGE, alpha=0.14, ec=ORANGE, label="box(0, 0.62)"))
    axis.plot([0.62, 0.38], [0.38, 0.62], color=INK, lw=4.5, solid_capstyle="round", label="both: convex")
    nearest = (line & ball).project(start)
    x, turns = start, [start]
    for _ in range(3):
        for each in (ball, line):
            x = each.project(x)
            turns.append(x)
    path = torch.stack(turns)
    axis.plot(*path.T, ".--", color=RED, ms=4, lw=1.0, label="projected in turn")
    axis.plot(*torch.stack([start, nearest]).T, color=BLUE, lw=1.6)
    axis.plot(*nearest, "*", color=BLUE, ms=11, label="nearest common point")
    axis.plot(*start, "o", color=INK, ms=5)
    axis.plot(*path[-1], "o", color=RED, ms=5)
    axis.set(title="a & b: Dykstra finds the nearest", xlim=(-0.15, 1.95), ylim=(-0.15, 1.95), xlabel="w₁")
    axis.legend(loc="upper left", handlelength=1.4)


def _union(axis: Any) -> None:
    problem, value = _quadratic()
    _contours(axis, value, -2.3, 2.3)
    either = ds.constraints.box(0.6, 1.3) | ds.constraints.box(-1.9, -0.5)
    for low, size in ((0.6, 0.7), (-1.9, 1.4)):
        axis.add_patch(Rectangle((low, low), size, size, fc=PURPLE, alpha=0.14, ec=PURPLE))
    axis.plot([-0.5, 0.6], [-0.5, 0.6], ":", color=RED, lw=1.8, label="the line between leaves it")
    recipe = ds.Recipe(optimizer="gd", lr=0.06, steps=60)  # small: a long step would leap across
    for start, colour in (((0.65, 1.25), BLUE), ((-1.8, -0.9), ORANGE)):
        path = _path(problem.edit(constraint=either), start, recipe)
        axis.plot(*path.T, ".-", color=colour, ms=3.5, lw=1.1)
        axis.plot(*path[-1], "o", color=colour, ms=6)
    axis.plot(1.5, 0.9, "+", color=INK, ms=8)
    axis.set(title="a | b: not convex, two minima", ylabel="")
    axis.legend(loc="lower right", handlelength=1.4)
