"""Picture of chapter 18: what Shampoo, SOAP and Muon make of a gradient, and steps to a training loss."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

import downslope as ds
from downslope.optim.muon import orthogonal
from scripts.pictures.style import BLUE, GREEN, ORANGE, PURPLE, RED, panels, save


def matrix_methods() -> Path:
    """Singular values of a layer's momentum before and after; Adam, Muon, SOAP, Shampoo, K-FAC by steps."""
    figure, axes = panels(2, height=3.5, width=10.0, gridspec_kw={"width_ratios": [1, 1.35]})
    _spectra(axes[0])
    _steps(axes[1])
    return save(figure, "matrix-methods")


def _problem() -> ds.Problem:
    digits = ds.data.digits(scale=16)
    return ds.Problem(
        model="mlp", objective="cross_entropy", train=digits.train,
        arguments={"depth": 3, "activation": "tanh"},
    )  # fmt: skip


def _spectra(axis: Any) -> None:
    problem = _problem()
    model = problem.build(0)
    x, y = ds.data.digits(scale=16).train
    layer = [each for each in model.modules() if isinstance(each, nn.Linear)][1]
    optimizers = {
        "shampoo": ds.optim.Shampoo([layer.weight], lr=0.03, grafting="adam"),
        "muon": ds.optim.Muon([layer.weight], lr=0.05, weight_decay=0.0),
    }
    made: dict[str, torch.Tensor] = {}
    draw = torch.Generator().manual_seed(0)
    others = ds.optim.Adam([p for p in model.parameters() if p is not layer.weight], lr=0.01)
    for _ in range(20):
        batch = torch.randperm(len(x), generator=draw)[:256]
        model.zero_grad()
        nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
        start = layer.weight.detach().clone()
        for label, optimizer in optimizers.items():
            layer.weight.data.copy_(start)
            optimizer.step()
            made[label] = start - layer.weight.detach()
        others.step()
    buffer = optimizers["muon"].state[layer.weight]["momentum_buffer"]
    rows = {
        "momentum": (buffer, ORANGE),
        "Shampoo": (made["shampoo"], RED),
        "Muon": (orthogonal(buffer), BLUE),
    }
    for label, (matrix, colour) in rows.items():
        values = torch.linalg.svdvals(matrix.double())
        axis.semilogy(
            range(1, len(values) + 1), values / values[0], color=colour, label=label, marker=".", ms=3
        )
    axis.set(title="Singular values in a hidden layer", xlabel="which, by size", ylabel="of the largest")
    axis.set_ylim(3e-5, 2)
    axis.legend(loc="lower left")


def _steps(axis: Any) -> None:
    common = {"batch_size": 256, "steps": 120, "schedule": "cosine"}
    recipes = {
        "Adam, lr 0.01": (ds.Recipe(optimizer="adam", lr=0.01, **common), ORANGE),
        "Muon, lr 0.05": (ds.Recipe(optimizer="muon", lr=0.05, **common), BLUE),
        "SOAP, lr 0.03": (ds.Recipe(optimizer="soap", lr=0.03, **common), GREEN),
        "Shampoo, lr 0.03": (ds.Recipe(optimizer="shampoo", lr=0.03, grafting="adam", **common), RED),
        "K-FAC": (ds.Recipe(optimizer="kfac", **common), PURPLE),
    }
    for label, (recipe, colour) in recipes.items():
        for seed in range(3):
            run = ds.fit(_problem(), recipe.edit(seed=seed), folder=False, progress=False)
            losses = run.history.series("train_loss")
            told = None if seed else label
            axis.semilogy(losses.steps, losses.values, color=colour, lw=1.1, alpha=0.85, label=told)
    axis.set(
        title="Digits, rates falling as a cosine (three seeds)",
        xlabel="step",
        ylabel="training loss of the batch",
    )
    axis.set_ylim(1e-5, 4)
    axis.legend(loc="lower left")
