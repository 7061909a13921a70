"""Picture of chapter 2: what a gradient check sees at every width of the difference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

import downslope as ds
from scripts.pictures.style import BLUE, GREY, ORANGE, panels, save


def gradient_check() -> Path:
    """Central differences against back-propagation, in both precisions, over the width."""
    digits = ds.data.digits(scale=16)
    size = {"width": 16, "activation": "tanh"}
    problem = ds.Problem(model="mlp", objective="cross_entropy", train=digits.train, arguments=size)
    widths = np.logspace(-12, 0, 61)
    figure, (axis,) = panels(1, width=6.4, height=3.3)
    for dtype, colour in ((torch.float32, ORANGE), (torch.float64, BLUE)):
        errors = [_error(problem, float(width), dtype) for width in widths]
        axis.plot(widths, errors, color=colour, label=str(dtype).removeprefix("torch."))
    slope = widths[widths > 1e-3]
    axis.plot(slope, 0.02 * slope**2, "--", color=GREY, lw=1.1, label="proportional to ε²")
    axis.set(xscale="log", yscale="log", xlabel="width ε of the difference", ylim=(1e-12, 1e2))
    axis.set(ylabel="relative error", title="Back-propagation against central differences")
    axis.legend(loc="lower right")
    return save(figure, "gradient-check")


def _error(problem: ds.Problem, width: float, dtype: torch.dtype) -> float:
    """Relative error of the derivative along one fixed direction."""
    model = problem.build(0).to(dtype)
    x, y = problem.train_source.stored(64).__next__()
    parameters = list(model.parameters())
    generator = torch.Generator().manual_seed(0)
    along = [torch.randn(p.shape, generator=generator, dtype=torch.float64).to(dtype) for p in parameters]
    norm = torch.sqrt(sum((d.double() ** 2).sum() for d in along)).to(dtype)
    along = [d / norm for d in along]
    loss = problem.objective(model(x.to(dtype)), y)
    slope = float(
        sum((g * d).sum() for g, d in zip(torch.autograd.grad(loss, parameters), along, strict=True))
    )
    sides: list[float] = []
    with torch.no_grad():
        start = [p.clone() for p in parameters]
        for sign in (1, -1):
            for p, s, d in zip(parameters, start, along, strict=True):
                p.copy_(s + sign * width * d)
            sides.append(float(problem.objective(model(x.to(dtype)), y)))
    return abs((sides[0] - sides[1]) / (2 * width) - slope) / abs(slope) + 1e-17
