"""Picture of chapter 12: what layers of another task are worth by the number of labels; rates by depth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats

import downslope as ds
from scripts.pictures.style import BLUE, GREEN, GREY, ORANGE, PURPLE, panels, save

LABELS = (10, 20, 50, 100, 200, 400)
DRAWS, STEPS, FIRST = 10, 200, 1000
WAYS = {
    "frozen": ("frozen features", GREEN),
    "fine": ("fine-tuned, one rate", ORANGE),
    "depth": ("fine-tuned by depth", BLUE),
    "control": ("by depth, learnt on shuffled labels", PURPLE),
}

(X, Y), (V, W) = ds.data.digits(scale=16).train, ds.data.digits(scale=16).valid


def _fit(problem: ds.Problem, recipe: ds.Recipe) -> ds.Run:
    return ds.fit(problem, recipe, folder=False, progress=False, observe=0)


def _problem(x: torch.Tensor, y: torch.Tensor, **more: Any) -> ds.Problem:
    return ds.Problem(model="mlp", objective="cross_entropy", metric="accuracy", train=(x, y), **more)


def _start(draw: int, shuffled: bool) -> ds.Run:
    """A network that tells the ten digits; of the control their labels are shuffled."""
    y = Y[:FIRST]
    if shuffled:
        y = y[torch.randperm(FIRST, generator=torch.Generator().manual_seed(draw))]
    return _fit(_problem(X[:FIRST], y), ds.Recipe(lr=3e-3, epochs=15, seed=draw))


def _accuracy(way: str, draw: int, labels: int, start: ds.Run) -> float:
    """Odd or even, learnt from `labels` images that the first task did not have."""
    order = torch.randperm(len(X) - FIRST, generator=torch.Generator().manual_seed(draw))[:labels] + FIRST
    new = _problem(X[order], Y[order] % 2)
    epochs = STEPS // -(-labels // 20)
    recipe = ds.Recipe(lr=3e-3, batch_size=min(labels, 20), epochs=epochs, seed=draw)
    if way == "frozen":
        features = ds.extract(new, start, progress=False)
        model = features.join(_fit(features, recipe))
    else:
        new = new if way == "scratch" else new.edit(weights=start)
        depth = {"layer_decay": 0.4, "unfreeze": max(1, epochs // 6)} if way in ("depth", "control") else {}
        model = _fit(new, recipe.edit(**depth)).model()
    with torch.no_grad():
        return float((model(V).argmax(1) == W % 2).float().mean())


def transfer() -> Path:
    """Accuracy and paired gain over labels; the rate of each depth over a run."""
    figure, (level, paired, rates) = panels(3, height=3.3, width=11.4)
    starts = [[_start(draw, shuffled) for draw in range(DRAWS)] for shuffled in (False, True)]
    found = {
        way: np.array(
            [[_accuracy(way, d, n, starts[way == "control"][d]) for n in LABELS] for d in range(DRAWS)]
        )
        for way in ("scratch", *WAYS)
    }
    scale = stats.t.ppf(0.975, DRAWS - 1) / np.sqrt(DRAWS)
    level.plot(LABELS, found["scratch"].mean(0), "o-", color="#30343b", ms=3.5, label="from scratch")
    paired.axhline(0, color="#30343b", lw=1.1)
    for index, (way, (label, colour)) in enumerate(WAYS.items()):
        level.plot(LABELS, found[way].mean(0), "o-", color=colour, ms=3.5, label=label)
        gain = 100 * (found[way] - found["scratch"])
        at = np.array(LABELS) * 1.045 ** (index - 1.5)
        half = scale * gain.std(0, ddof=1)
        paired.errorbar(at, gain.mean(0), half, color=colour, fmt="o-", ms=3.5, lw=1.2, elinewidth=1.2)
    for axis in (level, paired):
        axis.set(xscale="log", xlabel="labelled images of odd and even")
        axis.set_xticks(LABELS, [str(n) for n in LABELS])
        axis.minorticks_off()
    level.set(title="Odd or even, after the ten digits", ylabel="validation accuracy")
    level.legend(loc="lower right", fontsize=7.6)
    paired.set(title="Gain on a fresh network, 95 % interval", ylabel="points")
    _rates(rates, starts[0][0])
    return save(figure, "transfer")


def _rates(axis: Any, start: ds.Run) -> None:
    """The rate of every depth, epoch by epoch, of one run."""
    new = _problem(X[FIRST:], Y[FIRST:] % 2, weights=start)
    recipe = ds.Recipe(lr=3e-3, batch_size=20, epochs=24, layer_decay=0.4, unfreeze=4, schedule="cosine")
    history = _fit(new, recipe).history
    for name, colour, label in (
        ("5", BLUE, "5: last layer"),
        ("3", GREEN, "3: hidden layer"),
        ("1", ORANGE, "1: first layer"),
    ):
        values = history.series(f"lr/{name}").values
        axis.step(range(1, len(values) + 1), 1e3 * values, where="mid", color=colour, label=label)
    axis.set(title="layer_decay=0.4, unfreeze=4", xlabel="epoch", ylabel="learning rate, thousandths")
    axis.legend(loc="upper right")
    axis.axvline(4.5, color=GREY, lw=1, ls=":")
    axis.axvline(8.5, color=GREY, lw=1, ls=":")
