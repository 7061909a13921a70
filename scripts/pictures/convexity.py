"""Pictures of chapter 15: chords over and under a graph, and along chords of whole models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

import downslope as ds
from downslope.core.loss import Objective
from scripts.pictures.style import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, beside, panels, save

MODELS = {"softmax": BLUE, "mlp": ORANGE, "cnn": GREEN, "rnn": PURPLE, "transformer": RED}
"""A model that is affine in its weights, and four that are not."""


def convex_functions() -> Path:
    """Four functions, each with a chord: it stays above the graph of a convex one, and not of the last."""
    figure, axes = panels(4, height=2.9)
    shown = (
        ("absolute", "|x - 1|: one minimum", (-1.0, 2.4)),
        ("flat_bottom", "max(|x| - 1, 0): many minima", (-2.2, 1.6)),
        ("exponential", "exp(x): no minimum", (-2.6, 1.2)),
        ("x_cos_pi_x", "x cos πx: not convex", (-0.9, 1.15)),
    )
    for axis, (name, title, chord) in zip(axes, shown, strict=True):
        _with_chord(axis, ds.functions.get(name), chord)
        axis.set_title(title, fontsize=8.6)
    axes[0].set_ylabel("f(x)")
    return save(figure, "convex-functions")


def _with_chord(axis: Any, function: ds.functions.Function, chord: tuple[float, float]) -> None:
    low, high = function.domain[0]
    span = max(chord[1] - chord[0], 1e-9)
    grid = torch.linspace(
        max(low, chord[0] - span / 3), min(high, chord[1] + span / 3), 300, dtype=torch.float64
    )
    axis.plot(grid, function(grid[:, None]), color=BLUE)
    ends = torch.tensor(chord, dtype=torch.float64)
    at = torch.linspace(float(ends[0]), float(ends[1]), 200, dtype=torch.float64)
    graph = function(at[:, None])
    line = torch.lerp(graph[0], graph[-1], torch.linspace(0, 1, 200, dtype=torch.float64))
    above = line >= graph
    axis.fill_between(at, graph, line, where=above, color=GREEN, alpha=0.16, lw=0)
    axis.fill_between(at, graph, line, where=~above, color=RED, alpha=0.22, lw=0)
    axis.plot(at, line, color=GREY, lw=1.3)
    axis.plot(ends, graph[[0, -1]], "o", ms=4, color=GREY)
    if function.name == "flat_bottom":
        axis.plot([-1, 1], [0, 0], color=RED, lw=3, solid_capstyle="butt")
    elif function.attained:
        axis.plot(*function.lowest[0].at, function.lowest[0].value, "*", ms=9, color=RED)
    axis.set_xlabel("x")


def convex_models() -> Path:
    """Along chords between trained models the loss less its chord; and a convex loss without a minimum."""
    return beside("convex-models", _chords, _separable, height=3.5)


def _chords(axis: Any) -> None:
    """``J`` along the segment between the ends of two runs, less the chord over it."""
    flat, images = ds.data.digits(scale=16).train, ds.data.digits(images=True, scale=16).train
    rows = (images[0][:, 0], images[1])
    at = torch.linspace(0, 1, 25, dtype=torch.float64)
    for name, colour in MODELS.items():
        data = {"cnn": images, "rnn": rows, "transformer": rows}.get(name, flat)
        problem = ds.Problem(
            model=name, objective="cross_entropy", train=(data[0][:200], data[1][:200])
        )  # fmt: skip
        axis.plot(at, _over(problem, at), color=colour, label=name)
    axis.axhline(0.0, color=GREY, lw=1.0, ls="--")
    axis.set(title="The loss over its chord: above 0 is not convex")
    axis.set_xlabel("from the end of one run to that of another")
    axis.set_ylabel("J less its chord")
    axis.legend(loc="upper right")


def _over(problem: ds.Problem, at: torch.Tensor) -> Any:
    """Loss less chord along the way between the models that two seeds end at."""
    recipe = ds.Recipe(optimizer="adam", lr=3e-3, epochs=25, batch_size=20)
    runs = ds.fit_population(problem, recipe, seeds=(0, 1), progress=False)
    models = [run.model("last").double().eval() for run in runs]
    ends = [[p.detach().clone() for p in model.parameters()] for model in models]
    batch = problem.train_source.head(200)
    batch = (batch[0].double(), batch[1])
    objective, values = Objective(problem), list[float]()
    for t in at.tolist():
        with torch.no_grad():
            for p, a, b in zip(models[0].parameters(), *ends, strict=True):
                p.copy_(torch.lerp(a, b, t))
            values.append(float(objective(models[0], batch).value))
    graph = np.array(values)
    return graph - (1 - at.numpy()) * graph[0] - at.numpy() * graph[-1]


def _separable(axis: Any) -> None:
    """The loss of separable data goes on falling as the weights grow; with a penalty it ends."""
    x, y = ds.data.breast_cancer(standardise=True).train
    bare = ds.Problem(model="logistic", objective="logistic", train=(x, y.float()))
    penalised = bare.edit(**{"objective.l2": 1e-2})
    best = ds.solve(penalised).objective
    for problem, least, colour, label in (
        (bare, 0.0, ORANGE, "separable: J, whose infimum 0 is not attained"),
        (penalised, best, BLUE, "with l2: J less its minimum"),
    ):
        recipe = ds.Recipe(optimizer="gd", lr=2.0, steps=3000, precision="float64")
        run = ds.fit(problem, recipe, folder=False, progress=False, observe=0)
        series = run.history.series("train_objective")
        if not len(series.values):
            series = run.history.series("train_loss")
        axis.plot(series.steps + 1, np.maximum(series.values - least, 1e-15), color=colour, label=label)
    axis.set(title="Convex, with a minimum and without", xlabel="step", xscale="log", yscale="log")
    axis.set_ylabel("above the infimum")
    axis.set_ylim(3e-19, 3)
    axis.legend(loc="lower left")
