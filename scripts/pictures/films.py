"""Animations of the guide, for slides: few, and small."""

from __future__ import annotations

from pathlib import Path

import downslope as ds
from downslope.reporting.animation import Animation, animate
from scripts.pictures.style import FOLDER

LIMIT = 600_000
"""Bytes an animation may have."""


def optimizers_on_contours() -> Path:
    """Five methods on an ill-conditioned bowl, each at a rate that suits it."""
    rates = {"gd": 0.08, "momentum": 0.02, "adagrad": 0.6, "rmsprop": 0.06, "adam": 0.25}
    found = ds.paths("bowl(condition=20)", rates, start=(-5.0, -2.0), steps=90)
    return _kept(
        found.animate(title="Five methods in a bowl 20 times steeper across"), "optimizers-on-contours"
    )


def starts() -> Path:
    """Plain descent from six starts: the start alone is varied."""
    found = {f"from {start:g}": ds.paths("x_cos_pi_x", {"gd": 0.01}, start=(start,), steps=110)["gd"].at
             for start in (-0.9, -0.5, 0.2, 0.35, 0.8, 1.9)}  # fmt: skip
    moving = animate(found, ds.functions.x_cos_pi_x(), title="The start alone: x cos(πx), lr 0.01")
    return _kept(moving, "starts")


def rates() -> Path:
    """Plain descent at four rates, below and above the stable limit 2/4: the step alone is varied."""
    f = ds.functions.bowl(condition=20)
    found = {f"lr {rate:g}": ds.paths(f, {"gd": rate}, start=(-5.0, -2.0), steps=26)["gd"].at
             for rate in (0.05, 0.25, 0.475, 0.51)}  # fmt: skip
    moving = animate(found, f, title="The step alone: a bowl with 2/λ_max = 0.5")
    return _kept(moving, "rates")


def saddle() -> Path:
    """Five methods that run into a saddle, a millionth beside its ridge."""
    rates = {"gd": 0.05, "momentum": 0.01, "adagrad": 0.1, "rmsprop": 0.01, "adam": 0.05}
    found = ds.paths("saddle", rates, steps=160)
    return _kept(found.animate(title="Into the saddle x² − y², and out again"), "saddle")


def local_minimum() -> Path:
    """Twenty seeds of each method in the local minimum of x cos(pi x), with the noise of batches."""
    found = ds.escape(
        "x_cos_pi_x", {"gd": {}, "sgd": {}, "momentum": {"lr": 0.005}, "adam": {}},
        noise=2.0, lr=0.05, steps=600, seeds=20, keep=20, spread=0.03,
    )  # fmt: skip
    moving = found.animate(span=[[-1.2, 1.9]], title="Who leaves the local minimum of x cos(πx)")
    return _kept(moving, "local-minimum")


def _kept(animation: Animation, name: str) -> Path:
    """Write ``docs/pictures/NAME.gif``.

    Raises:
        ValueError: the file is larger than a page should load.
    """
    path = animation.save(FOLDER / f"{name}.gif", repeat=True, width=720, seconds=8.0)
    size = path.stat().st_size
    if size > LIMIT:
        raise ValueError(f"{path} has {size} bytes, {LIMIT} are allowed: draw fewer frames")
    return path
