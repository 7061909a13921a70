"""Picture of chapter 14: weights in bfloat16, rounded to the nearest, by chance, and from a float32 copy."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

import downslope as ds
from scripts.pictures.style import BLUE, GREEN, GREY, RED, beside

Rounding = Literal["nearest", "stochastic", "master"]
WAYS: tuple[tuple[str, torch.dtype, Rounding, str], ...] = (
    ("float32", torch.float32, "nearest", GREY),
    ("nearest", torch.bfloat16, "nearest", RED),
    ("stochastic", torch.bfloat16, "stochastic", BLUE),
    ("master", torch.bfloat16, "master", GREEN),
)
STEPS = 4000
WIDTHS = {"float32": 4.0}


def half_precision() -> Path:
    """Linear regression on real data, and Adam's mean of squares."""
    x, y = ds.data.diabetes(standardise=True).train
    x, y = x.double(), (y.double() - y.double().mean()) / y.double().std()
    best = torch.linalg.lstsq(x, y.reshape(-1, 1)).solution
    return beside("half-precision", lambda axis: _losses(axis, x, y.reshape(-1, 1), best), _means, height=3.3)


def _losses(axis: Any, x: Tensor, y: Tensor, best: Tensor) -> None:
    lowest = float((x @ best - y).square().mean())
    for name, dtype, rounding, colour in WAYS:
        w = nn.Parameter(torch.ones(x.shape[1], 1, dtype=dtype))
        optimizer = ds.optim.SGD([w], lr=1e-3, rounding=rounding)
        losses: list[float] = []
        for _ in range(STEPS):
            error = x @ w.detach().double() - y
            losses.append(float(error.square().mean()) - lowest)
            w.grad = (2 * x.T @ error / len(x)).to(dtype)
            optimizer.step()
        axis.plot(
            range(0, STEPS, 20), losses[::20], color=colour, label=name, lw=4 if name == "float32" else 1.4
        )
    axis.set(title="Least squares, gradient descent", xlabel="step", yscale="log")
    axis.set(ylabel="loss above the minimum", ylim=(5e-3, 20))
    axis.legend(loc="upper right")


def _means(axis: Any) -> None:
    for name, wide, rounding, colour in (
        ("float32", "float32", "nearest", GREY),
        ("bfloat16, nearest", None, "nearest", RED),
        ("bfloat16, stochastic", None, "stochastic", BLUE),
    ):
        w = nn.Parameter(torch.zeros(16, dtype=torch.bfloat16))
        optimizer = ds.optim.Adam([w], lr=0.0, rounding=rounding, state_dtype=wide, backend="reference")
        means: list[float] = []
        for _ in range(STEPS):
            w.grad = torch.ones_like(w)
            optimizer.step()
            means.append(float(optimizer.state[w]["exp_avg_sq"].float().mean()))
        axis.plot(
            range(0, STEPS, 20), means[::20], color=colour, label=name, lw=4 if name == "float32" else 1.4
        )
    axis.set(title="Adam's mean of g² = 1", xlabel="step", ylabel="v", ylim=(0, 1.1))
    axis.legend(loc="center right")
