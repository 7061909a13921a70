"""Pictures of chapter 3: stopping at the goal, and stopping early."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

import downslope as ds
from scripts.pictures.style import BLUE, GREEN, GREY, ORANGE, RED, panels, save


def goal() -> Path:
    """The accuracy of one run with a goal and of the same run without."""
    digits = ds.data.digits(scale=16)
    problem = ds.Problem(
        model="mlp", objective="cross_entropy", train=digits.train, valid=digits.valid, metric="accuracy"
    )
    recipe = ds.Recipe(optimizer="adam", lr=3e-3, epochs=20)
    whole = ds.fit(problem, recipe, folder=False, progress=False).history.series("valid_metric")
    stopped = ds.fit(problem.edit(goal=0.95), recipe, folder=False, progress=False)
    series = stopped.history.series("valid_metric")
    figure, (axis,) = panels(1, width=6.4, height=3.1)
    axis.axhline(0.95, color=GREY, lw=1.1, ls="--")
    axis.text(whole.steps[-1], 0.945, "goal 0.95", ha="right", va="top", color="#5b616b", fontsize=8.5)
    axis.plot(whole.steps, whole.values, color=GREY, label="no goal: all 20 epochs")
    axis.plot(series.steps, series.values, color=BLUE, lw=2.2, label="goal=0.95")
    axis.plot(series.steps[-1], series.values[-1], "o", color=BLUE)
    axis.set(title="A run that ends when it is good enough", xlabel="step", ylabel="validation accuracy")
    axis.set_ylim(0.5, 1.0)
    axis.legend(loc="lower right")
    return save(figure, "goal")


def early_stopping() -> Path:
    """Cost, the measure one cares for, and the gradient, with the moment of stopping."""
    table = ds.data.diabetes(standardise=True)
    problem = ds.Problem(
        model="mlp", objective="squared_error", train=table.train, valid=table.valid, metric="mae"
    )
    recipe = ds.Recipe(optimizer="adam", lr=0.01, epochs=120, batch_size=32)
    whole = ds.fit(problem, recipe, folder=False, progress=False, observe=0.5).history
    stopped = ds.fit(problem, recipe.edit(patience=15), folder=False, progress=False)
    end, best = stopped.summary["steps"], stopped.summary["best_step"]
    figure, (cost, measure, slope) = panels(3, height=3.1)
    for name, colour, label in (
        ("train_epoch_loss", BLUE, "training"),
        ("valid_loss", ORANGE, "validation"),
    ):
        series = whole.series(name)
        cost.plot(series.steps[1:], series.values[1:], color=colour, label=label)
    lowest = whole.series("valid_loss")
    at = int(np.argmin(lowest.values))
    cost.plot(lowest.steps[at], lowest.values[at], "v", color=ORANGE)
    cost.set(title="J: squared error", xlabel="step", ylim=(0, 8000))
    metric = whole.series("valid_metric")
    measure.plot(metric.steps[1:], metric.values[1:], color=GREEN)
    measure.plot(best, metric.values[list(metric.steps).index(best)], "o", color=GREEN)
    measure.set(title="P: mean absolute error", xlabel="step", ylim=(40, 65))
    norm = whole.series("grad_norm")
    slope.plot(norm.steps, norm.values, color=RED, lw=1.0)
    slope.set(title="gradient norm of J", xlabel="step", yscale="log")
    for axis in (cost, measure, slope):
        axis.axvline(best, color=GREEN, lw=1.1, ls="--")
        axis.axvline(end, color=GREY, lw=1.1, ls=":")
    measure.text(best, 63.6, " best", color=GREEN, fontsize=8.5)
    measure.text(end, 61.6, " stop", color="#5b616b", fontsize=8.5)
    cost.legend(loc="upper right")
    return save(figure, "early-stopping")


def surrogate_losses() -> Path:
    """The 0-1 loss and its surrogates over the margin; a run whose cost falls on, its measure not."""
    figure, (shapes, run) = panels(2, height=3.2)
    margins = torch.linspace(-2.5, 2.5, 201)
    ones, halves = torch.ones(1), margins / 2
    curves = {
        "hinge": [ds.objectives.hinge(m[None], ones) for m in margins],
        "logistic / log 2": [ds.objectives.logistic(m[None], ones) / np.log(2) for m in margins],
    }
    both = torch.stack([-halves, halves], 1)
    entropy = [ds.objectives.cross_entropy(z[None], torch.tensor([1])) / np.log(2) for z in both]
    shapes.step(margins, (margins <= 0).float(), color="#30343b", label="0-1 loss")
    for (label, values), colour in zip(curves.items(), (GREEN, BLUE), strict=True):
        shapes.plot(margins, torch.stack(values), color=colour, label=label)
    shapes.plot(margins, torch.stack(entropy), ":", color=ORANGE, lw=2.2, label="cross-entropy / log 2")
    shapes.set(title="Over the margin m = y z", xlabel="margin", ylim=(-0.1, 3.6))
    shapes.legend(loc="upper right")
    digits = ds.data.digits(scale=16)
    problem = ds.Problem(
        model="mlp", objective="cross_entropy", train=digits.train, valid=digits.valid, metric="accuracy"
    )
    recipe = ds.Recipe(optimizer="adam", lr=3e-3, epochs=60)
    history = ds.fit(problem, recipe, folder=False, progress=False).history
    cost, measure = history.series("train_epoch_loss"), history.series("valid_metric")
    run.plot(cost.steps[1:], cost.values[1:], color=BLUE, label="J on training data")
    run.plot(measure.steps[1:], 1 - measure.values[1:], color=RED, label="P: share of errors, validation")
    run.set(title="J falls on, P does not", xlabel="step", yscale="log")
    run.legend(loc="lower left")
    return save(figure, "surrogate-losses")
