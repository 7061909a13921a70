"""Picture of regularisation: what each method gives a small network on a hundred digits, over seeds."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats

import downslope as ds
from downslope.training.evaluate import evaluate
from scripts.pictures.style import BLUE, GREEN, GREY, ORANGE, RED, panels, save

SEEDS = range(5)
CHANGES = "shift(1, p=0.3), rotate(10), colour(0.3, 0.3), noise(0.1)"
BOTH = {"dropout": 0.3, "norm": "batch"}

METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "nothing": (GREY, {}),
    "early stopping": (BLUE, {"patience": 15}),
    "weight decay 0.3": (BLUE, {"optimizer": "adamw", "weight_decay": 0.3}),
    "L1 penalty 0.001": (BLUE, {"objective": "penalised(cross_entropy, l1=0.001)"}),
    "label smoothing 0.1": (BLUE, {"objective": "cross_entropy(label_smoothing=0.1)"}),
    "dropout 0.5": (BLUE, {"arguments": {"dropout": 0.5}}),
    "batch norm": (BLUE, {"arguments": {"norm": "batch"}}),
    "flip (wrong here)": (RED, {"augment": "flip"}),
    "shift": (GREEN, {"augment": "shift(1, p=0.3)"}),
    "rotate": (GREEN, {"augment": "rotate(10)"}),
    "colour": (GREEN, {"augment": "colour(0.3, 0.3)"}),
    "shift, rotate, colour, noise": (GREEN, {"augment": CHANGES}),
    "these, dropout and batch norm": (ORANGE, {"augment": CHANGES, "arguments": BOTH}),
}
OF_PROBLEM = ("objective", "augment", "arguments")


def scores(changes: dict[str, Any]) -> list[tuple[float, float]]:
    """Share of errors and loss on data that decided nothing, for each seed."""
    digits = ds.data.digits(images=True, scale=16, valid=0.5)
    x, y = digits.valid or digits.train
    held, test = (x[:200], y[:200]), (x[200:], y[200:])
    found: list[tuple[float, float]] = []
    for seed in SEEDS:
        few = torch.randperm(len(digits.train[0]), generator=torch.Generator().manual_seed(seed))[:100]
        given = {key: value for key, value in changes.items() if key in OF_PROBLEM}
        own = {"width": 12} | given.pop("arguments", {})
        stops = "patience" in changes
        problem = ds.Problem(
            **({"model": "cnn", "objective": "cross_entropy", "metric": "error"} | given), arguments=own,
            train=tuple(each[few] for each in digits.train), valid=held if stops else None,
        )  # fmt: skip
        how = {key: value for key, value in changes.items() if key not in OF_PROBLEM}
        recipe = ds.Recipe(
            **({"optimizer": "adam", "lr": 2e-3, "batch_size": 25, "epochs": 120, "seed": seed} | how)
        )
        model = ds.fit(problem, recipe, folder=False, progress=False, observe=0).model()
        plain = problem.edit(objective="cross_entropy", train=test, valid=None, augment=None)
        measured = evaluate(plain, model)
        found.append((measured.metric or 0.0, measured.loss))
    return found


def regularisation() -> Path:
    """Differences from nothing, seed by seed, with their mean and its 95 % interval (Student's t)."""
    figure, axes = panels(2, height=4.5, width=9.6, sharey=True)
    factor = stats.t.ppf(0.975, len(SEEDS) - 1) / math.sqrt(len(SEEDS))
    (_, nothing), *methods = METHODS.values()
    base = np.array(scores(nothing))
    for row, (colour, changes) in enumerate(methods):
        gains = (np.array(scores(changes)) - base) * (100, 1)
        for axis, each in zip(axes, gains.T, strict=True):
            axis.plot(each, np.full(len(each), row), "o", color=colour, alpha=0.3, ms=4, mew=0)
            axis.errorbar(
                each.mean(),
                row,
                xerr=factor * each.std(ddof=1),
                fmt="o",
                color=colour,
                ms=5.5,
                capsize=2.5,
                lw=1.4,
            )
    axes[0].set_yticks(range(len(methods)), list(METHODS)[1:])
    axes[0].invert_yaxis()
    error, loss = base.mean(0)
    axes[0].set(
        title=f"Errors, beside {100 * error:.1f} % with nothing", xlabel="difference in percentage points"
    )
    axes[1].set(title=f"Loss, beside {loss:.2f} nats with nothing", xlabel="difference in nats")
    for axis in axes:
        axis.axvline(0.0, color=GREY, lw=1.1, ls="--")
        axis.grid(axis="y", visible=False)
    return save(figure, "regularisation")
