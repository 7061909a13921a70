"""Picture of chapter 4: adaptive rates, by their sensitivity to the rate and on rare features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

import downslope as ds
from scripts.pictures.style import BLUE, GREEN, GREY, ORANGE, PURPLE, beside

METHODS = {"sgd": GREY, "momentum": ORANGE, "adagrad": GREEN, "rmsprop": PURPLE, "adam": BLUE}


def adaptive_rates() -> Path:
    """Accuracy over the rate for five methods, and the weights of features by how often they occur."""
    return beside("adaptive-rates", _sensitivity, _rare, height=3.6)


def _sensitivity(axis: Any) -> None:
    digits = ds.data.digits(scale=16)
    problem = ds.Problem(
        model="mlp", objective="cross_entropy", train=digits.train, valid=digits.valid, metric="accuracy"
    )
    rates = np.logspace(-4, 0.5, 10)
    for name, colour in METHODS.items():
        recipes = [ds.Recipe(optimizer=name, lr=float(lr), epochs=20) for lr in rates]
        runs = ds.fit_population(problem, recipes, seeds=[0, 1, 2], progress=False)
        values = np.array([run.summary["valid_metric"] for run in runs]).reshape(len(rates), 3)
        axis.plot(rates, values.mean(1), "o-", ms=3, color=colour, label=name)
    axis.set(xscale="log", xlabel="learning rate", ylabel="validation accuracy", ylim=(0, 1.02))
    axis.set_title("Digits, 20 epochs, 3 seeds")
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=5, columnspacing=1.0, handlelength=1.4)


def _rare(axis: Any) -> None:
    """Ten features, each present half as often as the one before, each worth 1."""
    shares = 0.5 ** np.arange(10)
    x, y = rare_features(shares)
    model = torch.nn.Linear(len(shares), 1, bias=False)
    problem = ds.Problem(model=model, objective="squared_error", train=(x, y))
    for name, lr in (("sgd", 0.3), ("adagrad", 0.5), ("rmsprop", 0.01), ("adam", 0.01)):
        recipe = ds.Recipe(optimizer=name, lr=lr, batch_size=32, epochs=5, init="zeros")
        run = ds.fit(problem, recipe, folder=False, progress=False)
        weights = run.model().weight.detach()[0]
        axis.plot(shares, weights, "o-", ms=3, color=METHODS[name], label=f"{name} lr {lr:g}")
    axis.axhline(1.0, color=GREY, lw=0.8)
    axis.set(xscale="log", xlabel="share of examples with the feature", ylabel="its weight (1 is right)")
    axis.set_title("Rare features")
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)


def rare_features(shares: Any, examples: int = 4096) -> tuple[torch.Tensor, torch.Tensor]:
    """Features that are 1 in their share of the examples, else 0; the target is their sum."""
    draw = np.random.default_rng(0).random((examples, len(shares))) < shares
    x = torch.from_numpy(draw.astype(np.float32))
    return x, x.sum(1)
