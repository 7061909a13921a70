"""Pictures of chapter 19: paths over functions, slices of a network's loss, ways between two runs."""

from __future__ import annotations

from pathlib import Path

from matplotlib import pyplot as plt

import downslope as ds
from downslope.reporting import stills
from scripts.pictures.style import panels, save

PIXELS = 64
"""To an inch, of the ground below the paths, so that a page loads quickly."""


def paths() -> Path:
    """Three functions: a bent valley, four minima, a saddle; each walked from its usual start."""
    walked = (
        (
            "rosenbrock",
            {"gd": 0.002, "momentum": 0.001, "adam": 0.1, "newton": {}},
            "Rosenbrock: a bent valley",
        ),
        ("himmelblau", {"gd": 0.01, "momentum": 0.01, "adam": 1.0, "lbfgs": {}}, "Himmelblau: four minima"),
        ("saddle", {"gd": 0.1, "momentum": 0.1, "adam": 0.1, "saddle_free_newton": {}}, "x² − y²: a saddle"),
    )
    figure, axes = panels(3, height=4.6, width=11.4)
    plt.rcParams["savefig.dpi"] = PIXELS
    for axis, (name, optimizers, title) in zip(axes, walked, strict=True):
        found = ds.paths(name, optimizers, steps=160, points=81)
        assert found.surface is not None  # noqa: S101  a picture of two coordinates has one
        domain = found.function.domain
        stills.contours(axis, found.surface, bar=False, lines=False, title=title)
        axis.set(xlim=domain[0], ylim=domain[1])
        handles, labels = axis.get_legend_handles_labels()
        axis.get_legend().remove()  # below, where it covers no minimum
        axis.legend(handles, labels, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, fontsize=8)
        axis.grid(visible=False)
    return save(figure, "paths")


def slices() -> Path:
    """One trained network over random, curved and principal directions."""
    digits = ds.data.digits(scale=16)
    problem = ds.Problem(
        model="mlp", objective="cross_entropy", train=digits.train, arguments={"depth": 2, "width": 32}
    )
    recorder = ds.Recorder()
    recipe = ds.Recipe(optimizer="sgd", lr=0.2, epochs=12)
    run = ds.fit(problem, recipe, folder=False, progress=False, on_probe=recorder)
    shown = {
        "Random directions": {},
        "Eigenvectors of the Hessian": {"directions": "eigen"},
        "The plane of the training": {"directions": "pca", "trajectory": recorder},
    }
    figure, axes = panels(3, height=3.7, width=11.4)
    plt.rcParams["savefig.dpi"] = PIXELS
    for axis, (title, options) in zip(axes, shown.items(), strict=True):
        found = ds.landscape(problem, run, points=41, exact=True, progress=False, **options)
        stills.contours(axis, found, lines=False, title=title)
        axis.set(xlabel=_brief(found.axes[0].name), ylabel=_brief(found.axes[1].name))
        axis.grid(visible=False)
    return save(figure, "slices")


def _brief(name: str) -> str:
    return (
        name.replace("random direction", "direction")
        .replace("eigenvector of the ", "")
        .replace("principal ", "")
    )


def connection() -> Path:
    """The loss between two runs of one recipe: straight, with units in one order, on a curve."""
    digits = ds.data.digits(scale=16)
    problem = ds.Problem(
        model="mlp", objective="cross_entropy", train=digits.train, arguments={"depth": 2, "width": 64}
    )
    recipe = ds.Recipe(optimizer="adam", lr=0.01, epochs=15)
    runs = ds.fit_population(problem, recipe, seeds=range(2), progress=False)
    found = ds.connect(problem, *runs, progress=False)
    figure, (axis,) = panels(1, height=3.3, width=6.4)
    stills.between(axis, found)
    return save(figure, "connection")
