"""Picture of batch normalisation: where training ends over starts and rates, without and with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from torch import nn

import downslope as ds
from scripts.pictures.style import panels, save

SCALES = (0.1, 0.2, 0.4, 0.7, 1.0, 1.5, 2.5, 5.0, 10.0)
RATES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
GUESS = float(np.log(10))
"""Loss of a constant guess over ten classes."""

_SHADES = LinearSegmentedColormap.from_list(
    "loss", ["#0b5d8f", "#4aa3c7", "#bcdfe8", "#f6e3c5", "#e2955a", "#a03c1c"]
)


def make(scale: float = 1.0, norm: Any = None) -> nn.Module:
    """Six hidden layers of 32 ReLUs, their weights drawn at `scale` times He's standard deviation."""
    model = ds.models.mlp(64, 10, width=32, depth=6, norm=norm)
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight)
            module.weight.data *= scale
            nn.init.zeros_(module.bias)
    return model


def batch_normalisation() -> Path:
    """Training loss after 150 steps on the digits, a run for every cell; white stands for diverged."""
    digits = ds.data.digits(scale=16)
    problem = ds.Problem(model=make, objective="cross_entropy", train=digits.train)
    ratios = {"width_ratios": [1, 1, 0.035]}
    figure, (*axes, side) = panels(3, height=3.6, width=9.8, gridspec_kw=ratios)
    image: Any = None
    for axis, norm in zip(axes, (None, "batch"), strict=True):
        ends = np.full((len(RATES), len(SCALES)), np.nan)
        for j, scale in enumerate(SCALES):
            for i, lr in enumerate(RATES):
                own = problem.edit(**{"model.scale": scale, "model.norm": norm})
                recipe = ds.Recipe(optimizer="sgd", lr=lr, batch_size=64, steps=150)
                run = ds.fit(own, recipe, folder=False, progress=False, observe=0)
                if run.status == "done" and np.isfinite(run.summary["train_loss"]):
                    ends[i, j] = run.summary["train_loss"]
        image = axis.imshow(ends, origin="lower", cmap=_SHADES, vmin=0, vmax=GUESS, aspect="auto")
        for (i, j), value in np.ndenumerate(ends):
            said = "–" if np.isnan(value) else f"{value:.2f}" if value < 10 else f"{value:.0e}"
            pale = np.isnan(value) or 0.25 * GUESS < value < 0.8 * GUESS
            axis.text(
                j, i, said, ha="center", va="center", fontsize=6.6, color="#1c1f24" if pale else "white"
            )
        axis.set_xticks(range(len(SCALES)), [f"{each:g}" for each in SCALES])
        axis.set_yticks(range(len(RATES)), [f"{each:g}" for each in RATES])
        axis.grid(visible=False)
        learnt = int((ends < 0.5).sum())
        name = "With batch norm" if norm else "Without"
        axis.set(
            title=f"{name}: {learnt} of {ends.size} runs below 0.5",
            xlabel="scale of the start (1 is He's)", ylabel="learning rate",
        )  # fmt: skip
    bar = figure.colorbar(image, cax=side)
    side.grid(visible=False)
    bar.set_label("training loss after 150 steps")
    bar.outline.set_visible(False)
    return save(figure, "batch-normalisation")
