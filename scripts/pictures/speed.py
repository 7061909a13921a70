"""Pictures of chapter 14: loss against time by batch, what a batch costs and buys, ways to one gradient."""

from __future__ import annotations

import itertools
import math
import time
from pathlib import Path
from typing import Any

import numpy as np

import downslope as ds
from bench._searched import MODELS
from bench.vectorisation import measured
from downslope.training.trial_step import TrialStep
from scripts.pictures.style import BLUE, GREEN, GREY, ORANGE, PURPLE, panels, save

RUNS = (
    ("full", 0.5, 1200, GREY, "all 1437"),
    (1, 0.02, 16_000, ORANGE, "1"),
    (10, 0.1, 12_000, GREEN, "10"),
    (100, 0.3, 5000, BLUE, "100"),
)
"""Batch, learning rate, steps, colour and name; rates as `ds.lr_range` suggests them."""


def mini_batch() -> Path:
    """The loss against time for four sizes of the batch; error, time and memory over the size."""
    digits = ds.data.digits(scale=16)
    problem = ds.Problem(model="mlp", objective="cross_entropy", train=digits.train)
    figure, (race, error, cost) = panels(3, height=3.3)
    _race(race, problem)
    sizes = sorted([*(2**k for k in range(11)), 10, 100])
    table = ds.batch_table(problem, ds.Recipe(optimizer="sgd", lr=0.1), sizes=sizes, rounds=1)
    rows = table.rows
    error.plot(sizes, [row.stderr for row in rows], "o-", color=PURPLE, ms=4)
    error.plot(sizes, rows[0].stderr / np.sqrt(sizes), color=GREY, ls="--", lw=1.1)
    error.text(40, rows[0].stderr / np.sqrt(40) * 1.35, "σ / √|B|", color="#5b616b", fontsize=9)
    error.axhline(table.norm, color=GREY, lw=1.1, ls=":")
    error.text(1, table.norm * 1.12, "length of the gradient", color="#5b616b", fontsize=8.5)
    error.set(title="Error of the gradient", xlabel="examples a step", xscale="log", yscale="log")
    each = [1e6 * seconds / size for size, seconds in zip(sizes, _step_seconds(problem, sizes), strict=True)]
    memory = [(row.memory - rows[0].memory) / 1e3 for row in rows[1:]]
    cost.plot(sizes, each, "o-", color=BLUE, ms=4)
    cost.plot(sizes[1:], memory, "s-", color=ORANGE, ms=3.5)
    cost.text(1.6, each[0] * 1.35, "µs an example", color=BLUE, fontsize=8.5)
    cost.text(sizes[-1], memory[-1] * 1.6, "kB beyond\none example", color=ORANGE, fontsize=8.5, ha="right")
    cost.set(title="Time and memory", xlabel="examples a step", xscale="log", yscale="log")
    cost.set_ylim(top=8 * max(*each, *memory))
    return save(figure, "mini-batch")


def _race(axis: Any, problem: ds.Problem) -> None:
    """Four runs; their time is that of the processor, which other programs do not disturb."""
    for size, lr, steps, colour, label in RUNS:
        recipe = ds.Recipe(optimizer="sgd", lr=lr, batch_size=size, steps=steps)
        begun = time.process_time()
        run = ds.fit(problem, recipe, folder=False, progress=False, observe=0)
        each = (time.process_time() - begun) / steps
        at, values = _binned(
            run.history.series("train_loss").values, {"full": 1, 1: 320, 10: 48, 100: 5}[size]
        )
        axis.plot(each * at, values, color=colour, label=f"{label}, lr {lr:g}")
    axis.set(
        title="Loss against time", xlabel="seconds", ylabel="cross-entropy", xscale="log", yscale="log",
        ylim=(3e-3, 4), xlim=(1e-3, 6),
    )  # fmt: skip
    axis.legend(title="examples a step", loc="lower left", title_fontsize=8.5)


def _step_seconds(problem: ds.Problem, sizes: list[int]) -> list[float]:
    """Time of the processor for a step, by size."""
    trial = TrialStep(problem, ds.Recipe(optimizer="sgd", lr=0.1))
    found: list[float] = []
    for size in sizes:
        batch = trial.batch(size)
        trial.step(batch)
        times: list[float] = []
        for _ in range(7):
            begun = time.process_time()
            for _ in range(20):
                trial.step(batch)
            times.append((time.process_time() - begun) / 20)
        found.append(sorted(times)[1])
    return found


def vectorisation() -> Path:
    """Milliseconds of one gradient, computed in several ways on this machine."""
    found = measured(rounds=5)
    names = list(found)[::-1]
    figure, (axis,) = panels(1, width=7.6, height=3.1)
    axis.barh(names, [found[name] for name in names], color=BLUE, height=0.62)
    for index, name in enumerate(names):
        axis.text(found[name] * 1.15, index, f"{found[name]:.3g} ms", va="center", fontsize=8.5)
    axis.set(title="The gradient of 1437 digits, once", xlabel="milliseconds", xscale="log")
    axis.set_xlim(min(found.values()) / 2, max(found.values()) * 6)
    axis.grid(axis="y", visible=False)
    return save(figure, "vectorisation")


KINDS = (("mlp", "MLP, one layer of 128"), ("cnn", "CNN, 8 and 16 channels"))
MEMBERS = (1, 2, 4, 8, 16, 32, 64)


def populations() -> Path:
    """Seconds of training populations of more and more members, together and one by one, on digits."""
    figure, axes = panels(2, height=3.2)
    for axis, (name, title) in zip(axes, KINDS, strict=True):
        found = {
            way: [_population_seconds(name, way, n) for n in MEMBERS] for way in ("together", "one by one")
        }
        for (way, each), colour in zip(found.items(), (BLUE, ORANGE), strict=True):
            axis.plot(MEMBERS, each, "o-", color=colour, ms=4, label=way)
        gain = found["one by one"][-1] / found["together"][-1]
        ends = sorted(each[-1] for each in found.values())
        axis.plot([MEMBERS[-1]] * 2, ends, color=GREY, lw=1.0, ls=":")
        axis.text(1.15 * MEMBERS[-1], math.prod(ends) ** 0.5, f"{gain:.1f} times", va="center", fontsize=9)
        axis.set(title=title, xlabel="members", ylabel="seconds", xscale="log", yscale="log")
        axis.set_xticks(MEMBERS, [str(each) for each in MEMBERS])
        axis.set_xlim(0.85, 2.6 * MEMBERS[-1])
        axis.yaxis.set_major_formatter("{x:g}")
        axis.minorticks_off()
        axis.legend(loc="upper left")
    return save(figure, "populations")


def _population_seconds(model: str, way: Any, members: int) -> float:
    """Time of the processor for two epochs of a population; the best of a few."""
    digits = ds.data.digits(scale=16)
    problem = ds.Problem(
        model=MODELS[model], objective="cross_entropy", metric="accuracy",
        train=digits.train, valid=digits.valid,
    )  # fmt: skip
    recipe = ds.Recipe(optimizer="adamw", lr=1e-3, batch_size=64, epochs=2)
    recipes = [recipe.edit(lr=float(lr)) for lr in np.geomspace(1e-4, 1e-2, members)]
    times: list[float] = []
    for _ in range(3 if members < 8 else 1):
        begun = time.process_time()
        ds.fit_population(problem, recipes, progress=False, way=way)
        times.append(time.process_time() - begun)
    return min(times)


def _binned(values: np.ndarray, window: int) -> tuple[np.ndarray, np.ndarray]:
    """Means of `window` steps in a row, and where they end; thinned to 140 points evenly in log time."""
    count = len(values) // window
    means = values[: count * window].reshape(count, window).mean(1)
    ends = window * (1 + np.arange(count))
    kept = np.unique(np.geomspace(1, count, 140).astype(int)) - 1
    edges = np.append(kept, count)
    return ends[kept], np.asarray([means[a:b].mean() for a, b in itertools.pairwise(edges)])
