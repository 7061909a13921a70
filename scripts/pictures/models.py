"""Pictures of chapter 7: a network as a composition of functions, and the activations."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats
from sklearn.decomposition import PCA

import downslope as ds
from scripts.pictures.style import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, panels, save

AMOUNTS = (10, 20, 50, 100, 200, 400, 700)
SEEDS = 8
STEPS = 300


def composition() -> Path:
    """Accuracy of a linear probe by layer; staged and end-to-end features by the number of labels."""
    figure, (layers, amounts) = panels(2, width=9.6, height=3.7)
    digits = ds.data.digits(images=True, scale=16, canvas=14)
    problem = ds.Problem(
        model="cnn", arguments={"depth": 3}, objective="cross_entropy", metric="accuracy",
        train=digits.train, valid=digits.valid,
    )  # fmt: skip
    recipe = ds.Recipe(optimizer="adam", lr=3e-3, epochs=15)
    trained = ds.fit(problem, recipe, folder=False, progress=False).model()
    for model, colour, label in (
        (problem.build(0), GREY, "as it starts"),
        (trained, BLUE, "trained end to end"),
    ):
        probes = ds.probe_layers(problem, model)
        values, errors = ([getattr(row, key) for row in probes] for key in ("valid", "stderr"))
        layers.errorbar(range(len(probes)), values, errors, color=colour, marker="o", ms=4, label=label)
    layers.axhline(probes.own, color=GREEN, lw=1.1, ls="--")
    layers.text(-0.3, probes.own + 0.012, "the trained network's own output", color=GREEN, fontsize=8.5)
    kinds = [row.kind.replace("Conv2d", "conv").replace("MaxPool2d", "pool") for row in probes]
    named = ["input", *(kind.replace("ReLU", "relu").replace("Linear", "last") for kind in kinds[1:])]
    layers.set_xticks(range(len(probes)), named, rotation=45, ha="right")
    layers.set(title="A linear probe on every layer", ylabel="validation accuracy", ylim=(0, 1.04))
    layers.legend(loc="lower right")
    for (label, found), colour in zip(by_amount().items(), (BLUE, ORANGE, PURPLE), strict=True):
        mean = found.mean(1)
        half = stats.t.ppf(0.975, SEEDS - 1) * found.std(1, ddof=1) / math.sqrt(SEEDS)
        amounts.plot(AMOUNTS, mean, color=colour, marker="o", ms=4, label=label)
        amounts.fill_between(AMOUNTS, mean - half, mean + half, color=colour, alpha=0.18, lw=0)
    amounts.set(
        title="Staged or end to end: digits 5 to 9",
        xlabel="labelled examples",
        ylabel="test accuracy",
        xscale="log",
        ylim=(0, 1.04),
    )
    amounts.set_xticks(AMOUNTS, AMOUNTS)
    amounts.minorticks_off()
    amounts.legend(loc="upper left")
    return save(figure, "composition")


def by_amount() -> dict[str, Any]:
    """Accuracy on digits 5 to 9, (amounts, seeds), of three ways to features.

    The test examples choose nothing: every run ends after `STEPS` steps and is judged as it stands there.
    """
    digits = ds.data.digits(images=True, scale=16, canvas=12)
    (x, y), (xv, yv) = digits.train, digits.valid
    low, high, held = y < 5, y >= 5, yv >= 5
    first = ds.Problem(
        model="cnn", arguments={"depth": 3, "outputs": 5}, objective="cross_entropy", metric="accuracy",
        train=(x[low], y[low]),
    )  # fmt: skip
    recipe = ds.Recipe(optimizer="adam", lr=3e-3, steps=STEPS, batch_size=32)
    body = ds.fit(first, recipe.edit(steps=2 * STEPS), folder=False, progress=False).model()[:-1].eval()
    with torch.no_grad():
        learnt = body(x), body(xv)
    pca = PCA(32, svd_solver="full").fit(x.flatten(1).numpy())  # of all images: they need no labels
    principal = tuple(torch.from_numpy(pca.transform(each.flatten(1).numpy())).float() for each in (x, xv))
    ways = {
        "end to end": (x, xv),
        "layers pre-trained on digits 0 to 4": standard(*learnt),
        "principal components": standard(*principal),
    }
    found = {label: np.zeros((len(AMOUNTS), SEEDS)) for label in ways}
    pool = torch.nonzero(high).flatten()
    for row, n in enumerate(AMOUNTS):
        for seed in range(SEEDS):
            few = pool[torch.randperm(len(pool), generator=torch.Generator().manual_seed(seed))[:n]]
            for label, (seen, unseen) in ways.items():
                pair = (seen[few], y[few] - 5), (unseen[held], yv[held] - 5)
                model = first.model if label == "end to end" else "softmax"
                found[label][row, seed] = last(first, model, *pair, recipe.edit(seed=seed))
    return found


def standard(seen: torch.Tensor, unseen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Both with the mean and deviation of the first taken out."""
    mean, deviation = seen.mean(0), seen.std(0).clamp(min=1e-6)
    return (seen - mean) / deviation, (unseen - mean) / deviation


def last(problem: ds.Problem, model: str, train: Any, valid: Any, recipe: ds.Recipe) -> float:
    """The accuracy where the recipe ends."""
    arguments = {"outputs": 5} | ({"depth": 3} if model == "cnn" else {})
    run = ds.fit(
        problem.edit(model=model, arguments=arguments, train=train),
        recipe, folder=False, progress=False, observe=0,
    )  # fmt: skip
    with torch.no_grad():
        return float((run.model().eval()(valid[0]).argmax(1) == valid[1]).double().mean())


def activations() -> Path:
    """Values above, slopes below, and bars where the slope is under a hundredth."""
    figure, axes = panels(3, rows=2, width=9.6, height=5.4, sharex=True)
    groups = (
        ("saturating", ("sigmoid", "tanh", "softsign", "hardtanh")),
        ("rectifiers", ("relu", "leaky_relu", "elu", "softplus")),
        ("smooth, with a dip", ("gelu", "silu", "mish", "hardswish")),
    )
    edge = 7.0
    z = torch.linspace(-edge, edge, 1401, dtype=torch.float64)
    for value, slope, (title, names) in zip(axes[:3], axes[3:], groups, strict=True):
        table = ds.models.activations(names)
        for i, (row, colour) in enumerate(zip(table, (BLUE, ORANGE, GREEN, RED), strict=True)):
            value.plot(z, row.value(z), color=colour, label=row.name)
            slope.plot(z, row.slope(z), color=colour)
            for low, high in row.saturated:
                ends = max(low, -edge), min(high, edge)
                if ends[0] < ends[1]:
                    slope.plot(ends, [-0.72 - 0.09 * i] * 2, color=colour, lw=2.6, solid_capstyle="butt")
        value.set(title=title, ylim=(-1.5, 3.2))
        slope.set(xlabel="z", ylim=(-1.1, 1.65), xlim=(-edge, edge), xticks=(-6, -3, 0, 3, 6))
        value.legend(loc="upper left")
    axes[0].set_ylabel("value")
    axes[3].set_ylabel("slope")
    axes[3].text(0, -0.66, "bars: slope under 0.01", ha="center", va="bottom", fontsize=8, color="#5b616b")
    return save(figure, "activations")
