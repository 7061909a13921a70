"""Pictures of chapter 20: random search against a grid, the logarithm, the rate and other settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import downslope as ds
from downslope.core.space import applied
from downslope.training.population import fit_population
from downslope.tuning.defaults import default_space
from downslope.tuning.low_dimension import low_dimension
from scripts.pictures.style import BLUE, GREEN, GREY, ORANGE, PURPLE, panels, save

SEED = 6
"""Of a draw of nine that leaves no large part of the plane out."""


def random_search() -> Path:
    """Trials of a grid and random ones over the axis that matters, how often each hits, rates drawn."""
    figure, (grid, random, hit, drawn) = panels(4, width=11.2, height=2.9)
    seen = low_dimension(trials=9, dimensions=2, mattering=1, side=0.12, repeats=1, seed=SEED)
    _seen(grid, seen.grid_points, seen.box, ORANGE, "9 trials, 3 values")
    _seen(random, seen.random_points, seen.box, BLUE, "9 trials, 9 values")
    counts = (27, 64, 125, 216, 343)
    found = [low_dimension(trials=n, dimensions=3, mattering=1, side=0.05) for n in counts]
    hit.plot(counts, [each.random_by_hand for each in found], color=BLUE, lw=1.2)
    hit.plot(counts, [each.grid_by_hand for each in found], color=ORANGE, lw=1.2)
    hit.plot(counts, [each.random for each in found], "o", color=BLUE, ms=5)
    hit.plot(counts, [each.grid for each in found], "s", color=ORANGE, ms=5)
    hit.text(95, 0.86, "random", color=BLUE, fontsize=9)
    hit.text(95, 0.3, "grid", color=ORANGE, fontsize=9)
    hit.set(title="How often they hit", xlabel="trials, three dimensions", ylim=(0, 1.05), xlim=(0, 360))
    draw = np.random.default_rng(0).random(1000)
    bins = np.logspace(-5, -1, 17)
    for dimension, colour, name in (
        (ds.uniform(1e-5, 1e-1), ORANGE, "evenly"),
        (ds.log(1e-5, 1e-1), BLUE, "in the logarithm"),
    ):
        values = [dimension.draw(float(u)) for u in draw]
        drawn.hist(values, bins=list(bins), color=colour, alpha=0.72, label=name)
    drawn.set(title="1000 rates drawn", xlabel="rate", xscale="log")
    drawn.legend(loc="upper left")
    return save(figure, "random-search")


def _seen(axis: Any, points: Any, box: Any, colour: str, title: str) -> None:
    """Trials in the plane, the strip in which they hit, and their shadow on the axis that matters."""
    ((low, high),) = box
    axis.axvspan(low, high, color=GREEN, alpha=0.2, lw=0)
    x, y = np.asarray(points).T
    axis.plot(x, y, "o", color=colour, ms=6.5, clip_on=False)
    axis.plot(x, np.full_like(x, -0.16), "|", color=colour, ms=10, mew=1.8, clip_on=False)
    axis.axhline(-0.08, color="#c3c7cf", lw=0.8)
    axis.set(title=title, xlim=(-0.06, 1.06), ylim=(-0.24, 1.06), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
    axis.set(xlabel="it matters", ylabel="it does not")
    axis.grid(False)


def tuning_order() -> Path:
    """Loss against the rate for three optimizers, and along each setting of Adam."""
    digits = ds.data.digits(scale=16)
    problem = ds.Problem(model="mlp", objective="cross_entropy", train=digits.train, valid=digits.valid)
    figure, (left, right) = panels(2, width=9.6, height=3.2)
    rates = np.logspace(-4, 1, 21)
    kinds = (("sgd", ORANGE), ("rmsprop", GREEN), ("adam", BLUE))
    for name, colour in kinds:
        each = ds.Recipe(optimizer=name, batch_size=64, epochs=3)
        left.plot(
            rates,
            _losses(problem, [each.edit(lr=float(lr)) for lr in rates]),
            "o-",
            ms=3.2,
            color=colour,
            label=name,
        )
    left.set(
        title="The rate, for three optimizers",
        xlabel="rate",
        ylabel="loss on validation data",
        xscale="log",
        yscale="log",
        ylim=(0.1, 4),
    )
    left.legend(loc="lower left")
    recipe = ds.Recipe(optimizer="adam", batch_size=64, epochs=3)
    places = np.linspace(0, 0.999, 17)
    colours = {"lr": BLUE, "betas.0": PURPLE, "betas.1": GREEN, "weight_decay": GREY}
    for key, dimension in default_space(recipe).items():
        changed = [applied(problem, recipe, {key: dimension.draw(float(u))})[1] for u in places]
        right.plot(places, _losses(problem, changed), color=colours[key], label=key)
    right.set(title="Adam's settings, one by one", xlabel="place in the default range", yscale="log")
    right.set(ylim=(0.1, 4))
    right.legend(loc="lower left")
    for axis in (left, right):
        axis.set_yticks([0.1, 0.3, 1, 3], labels=["0.1", "0.3", "1", "3"])
        axis.minorticks_off()
    return save(figure, "tuning-order")


def _losses(problem: ds.Problem, recipes: list[ds.Recipe]) -> list[float]:
    """Loss on validation data at the end of each; NaN of one that diverged."""
    runs = fit_population(problem, recipes, strict=False, progress=False)
    return [float(run.summary.get("valid_loss") or np.nan) for run in runs]
